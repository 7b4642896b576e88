/* Names and first contact: addresses of a target, resolved once, and whether they accept. */
#ifndef AEFM_NET_H
#define AEFM_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define NET_TEXT_MAX 128

struct address {
    struct sockaddr_storage storage;
    socklen_t len;
};

/* Zero-initialised is empty; the caller frees `at`. */
struct addresses {
    struct address *at;
    size_t count;
};

/* Try to connect for at most `timeout_ms`, then close. Return 0 or an errno. */
int net_probe(const struct address *address, int timeout_ms);

/* Resolve host and port. Of several addresses the first that accepts a connection is appended, or with `all` every
 * one that does; a single one is not tried. Return NULL, or why there is none (static text). */
const char *net_resolve(const char *host, const char *port, int timeout_ms, bool all, struct addresses *to);

/* Append the address of a Unix socket: a path, or "@name" in the abstract namespace. False where it is too long. */
bool net_append_unix(const char *path, struct addresses *to);

/* Write "127.0.0.1:80", "[::1]:80" or "unix:/path". Return NULL, or what is wrong (static text). */
const char *net_address_text(const struct address *address, char *text, size_t size);

#endif
