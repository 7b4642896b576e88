/* TLS on the client's side, over non-blocking sockets. Only tls.c knows OpenSSL; built without it (tls_absent.c), there
 * is none. */
#ifndef AEFM_TLS_H
#define AEFM_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define TLS_RECORD_MAX 16384u /* the most that one read gives */

struct tls_client; /* what all connections of a run share; any thread may use it */
struct tls;        /* of one connection, over its reconnections: the session is resumed */

bool tls_is_built(void);

/* Certificates are checked against `host` and the system's store (or $SSL_CERT_FILE, $SSL_CERT_DIR), unless `insecure`.
 * Return NULL with the reason in `error`. */
struct tls_client *tls_client_new(const char *host, bool insecure, char *error, size_t error_size);
void tls_client_free(struct tls_client *client);

struct tls *tls_new(struct tls_client *client);
void tls_free(struct tls *tls);

enum tls_step { TLS_DONE, TLS_WANTS_READ, TLS_WANTS_WRITE, TLS_FAILED };

/* Begin on a connected socket; false where there is no memory. Then shake hands, again when the socket is ready. */
bool tls_begin(struct tls *tls, int fd);
enum tls_step tls_handshake(struct tls *tls);

/* Why the latest handshake failed. */
const char *tls_failure(const struct tls *tls);

/* As recv() and send(); EAGAIN also where only the protocol had something to say. */
ssize_t tls_read(struct tls *tls, void *data, size_t size);
ssize_t tls_write(struct tls *tls, const void *data, size_t len);

/* Say goodbye where that makes sense, before the socket is closed. */
void tls_end(struct tls *tls);

#endif
