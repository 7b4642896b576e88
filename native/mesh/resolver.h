/* Names to addresses, by DNS alone (/etc/resolv.conf says where): getaddrinfo() would want modules of the very glibc
 * that a static program was built with. One thread asks, and asks again until there is an answer. */
#ifndef AEFM_MESH_RESOLVER_H
#define AEFM_MESH_RESOLVER_H

#include <stdbool.h>
#include <sys/socket.h>

struct resolver;
struct address; /* of one host and port */

struct resolver *resolver_new(void);
void resolver_free(struct resolver *resolver); /* with all its addresses */

/* An address to be known soon: at once where `host` is an IP address or "localhost". */
struct address *resolver_add(struct resolver *resolver, const char *host, const char *port);

/* Start to ask, once all are added; no thread is started where all are known. Return 0 or an errno. */
int resolver_start(struct resolver *resolver);

/* Return false while it is unknown. */
bool address_get(struct address *address, struct sockaddr_storage *to, socklen_t *len);

/* It was of no use: ask again, once a second at most. */
void address_doubt(struct address *address);

/* Of a host that is an IP address or "localhost" only. */
bool address_parse(const char *host, const char *port, struct sockaddr_storage *to, socklen_t *len);

#endif
