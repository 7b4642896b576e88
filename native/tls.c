#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"

#define FAILURE_MAX 160

struct tls_client {
    SSL_CTX *context;
    char *name; /* for SNI; NULL: the host is an address */
    bool insecure;
};

struct tls {
    struct tls_client *client;
    SSL *ssl;             /* NULL between connections */
    SSL_SESSION *session; /* of the latest ticket; NULL: none yet */
    bool open;            /* the handshake is done, and nothing has broken since */
    char failure[FAILURE_MAX];
};

bool tls_is_built(void) { return true; }

/* A ticket has come (with TLS 1.3 at any time after the handshake). */
static int keep_session(SSL *ssl, SSL_SESSION *session) {
    struct tls *t = SSL_get_app_data(ssl);
    SSL_SESSION_free(t->session);
    t->session = session;
    return 1;
}

static bool expect_host(struct tls_client *client, const char *host) {
    unsigned char address[16];
    X509_VERIFY_PARAM *check = SSL_CTX_get0_param(client->context);
    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1) {
        return X509_VERIFY_PARAM_set1_ip_asc(check, host) == 1;
    }
    size_t len = strlen(host);
    client->name = memcpy(must_alloc(len + 1, 1), host, len);
    return X509_VERIFY_PARAM_set1_host(check, host, len) == 1;
}

static bool prepare(struct tls_client *client, const char *host) {
    static const unsigned char http[] = "\x08http/1.1";
    SSL_CTX *context = client->context = SSL_CTX_new(TLS_client_method());
    if (!context) return false;
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
#ifdef SSL_OP_IGNORE_UNEXPECTED_EOF /* many servers close without a word, as they do without TLS */
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
#endif
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, keep_session);
    SSL_CTX_set_verify(context, client->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    return SSL_CTX_set_default_verify_paths(context) == 1 && expect_host(client, host) &&
           SSL_CTX_set_alpn_protos(context, http, sizeof http - 1) == 0;
}

struct tls_client *tls_client_new(const char *host, bool insecure, char *error, size_t error_size) {
    struct tls_client *client = must_alloc(1, sizeof *client);
    client->insecure = insecure;
    if (prepare(client, host)) return client;
    const char *why = ERR_reason_error_string(ERR_peek_last_error());
    snprintf(error, error_size, "OpenSSL does not start: %s", why ? why : "unknown reason");
    tls_client_free(client);
    return NULL;
}

void tls_client_free(struct tls_client *client) {
    if (!client) return;
    SSL_CTX_free(client->context);
    free(client->name);
    free(client);
}

struct tls *tls_new(struct tls_client *client) {
    struct tls *t = must_alloc(1, sizeof *t);
    t->client = client;
    return t;
}

void tls_free(struct tls *t) {
    if (!t) return;
    tls_end(t);
    SSL_SESSION_free(t->session);
    free(t);
}

bool tls_begin(struct tls *t, int fd) {
    tls_end(t);
    t->ssl = SSL_new(t->client->context);
    if (!t->ssl || SSL_set_fd(t->ssl, fd) != 1 || SSL_set_app_data(t->ssl, t) != 1) return false;
    if (t->client->name && SSL_set_tlsext_host_name(t->ssl, t->client->name) != 1) return false;
    if (t->session) SSL_set_session(t->ssl, t->session);
    SSL_set_connect_state(t->ssl);
    return true;
}

static void explain(struct tls *t, int error) {
    long verified = SSL_get_verify_result(t->ssl);
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    if (!t->client->insecure && verified != X509_V_OK) {
        snprintf(t->failure, sizeof t->failure, "the certificate is not trusted: %s; --insecure takes any",
                 X509_verify_cert_error_string(verified));
    } else if (reason) {
        snprintf(t->failure, sizeof t->failure, "TLS failed: %s", reason);
    } else {
        reason = error ? strerror(error) : "the connection was closed";
        snprintf(t->failure, sizeof t->failure, "TLS failed: %s", reason);
    }
    SSL_SESSION_free(t->session);
    t->session = NULL;
}

enum tls_step tls_handshake(struct tls *t) {
    ERR_clear_error();
    errno = 0;
    int n = SSL_do_handshake(t->ssl), error = errno;
    t->open = n == 1;
    if (t->open) return TLS_DONE;
    switch (SSL_get_error(t->ssl, n)) {
    case SSL_ERROR_WANT_READ: return TLS_WANTS_READ;
    case SSL_ERROR_WANT_WRITE: return TLS_WANTS_WRITE;
    default: break;
    }
    explain(t, error);
    return TLS_FAILED;
}

const char *tls_failure(const struct tls *t) { return t->failure; }

/* Turn what a read or write returned (errno was 0 before it) into what recv() or send() would have. */
static ssize_t conclude(struct tls *t, int n) {
    int error = errno;
    if (n > 0) return n;
    switch (SSL_get_error(t->ssl, n)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
    case SSL_ERROR_ZERO_RETURN: return 0;
    default: break;
    }
    t->open = false;
    errno = error ? error : EPROTO;
    return -1;
}

ssize_t tls_read(struct tls *t, void *data, size_t size) {
    ERR_clear_error();
    errno = 0;
    return conclude(t, SSL_read(t->ssl, data, (int)(size < TLS_RECORD_MAX ? size : TLS_RECORD_MAX)));
}

ssize_t tls_write(struct tls *t, const void *data, size_t len) {
    ERR_clear_error();
    errno = 0;
    ssize_t n = conclude(t, SSL_write(t->ssl, data, (int)(len < TLS_RECORD_MAX ? len : TLS_RECORD_MAX)));
    if (n == 0) errno = EPIPE;
    return n == 0 ? -1 : n;
}

void tls_end(struct tls *t) {
    if (!t->ssl) return;
    if (t->open) SSL_shutdown(t->ssl); /* without it the session could not be resumed */
    SSL_free(t->ssl);
    t->ssl = NULL;
    t->open = false;
}
