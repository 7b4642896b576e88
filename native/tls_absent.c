/* In place of tls.c where OpenSSL is not: there never is a client, so that nothing else here is called. */
#include <stdio.h>
#include <stdlib.h>

#include "tls.h"

bool tls_is_built(void) { return false; }

struct tls_client *tls_client_new(const char *host, bool insecure, char *error, size_t error_size) {
    (void)host, (void)insecure;
    snprintf(error, error_size, "https needs OpenSSL, which this aefm-wrk was built without; expected http://, or a "
                                "build where its headers are (Debian: libssl-dev)");
    return NULL;
}

void tls_client_free(struct tls_client *client) { (void)client; }
void tls_free(struct tls *tls) { (void)tls; }

struct tls *tls_new(struct tls_client *client) { (void)client, abort(); }
bool tls_begin(struct tls *tls, int fd) { (void)tls, (void)fd, abort(); }
enum tls_step tls_handshake(struct tls *tls) { (void)tls, abort(); }
const char *tls_failure(const struct tls *tls) { (void)tls, abort(); }
ssize_t tls_read(struct tls *tls, void *data, size_t size) { (void)tls, (void)data, (void)size, abort(); }
ssize_t tls_write(struct tls *tls, const void *data, size_t len) { (void)tls, (void)data, (void)len, abort(); }
void tls_end(struct tls *tls) { (void)tls, abort(); }
