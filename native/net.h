/* Names and first contact: resolve a host once, and try an address. */
#ifndef AEFM_NET_H
#define AEFM_NET_H

#include <stddef.h>
#include <sys/socket.h>

/* Try to connect for at most `timeout_ms`, then close. Return 0 or an errno. */
int net_probe(const struct sockaddr *address, socklen_t len, int timeout_ms);

/* Resolve host and port to one address. Where there are several, the first that accepts a connection is taken.
 * Return NULL, or why there is none (static text). */
const char *net_resolve(const char *host, const char *port, int timeout_ms, struct sockaddr_storage *address,
                        socklen_t *len);

#endif
