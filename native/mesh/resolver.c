#include "mesh/resolver.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <resolv.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "buffer.h"
#include "clock.h"

#define ANSWER_BYTES 4096
#define SOON_NS (100 * NS_PER_MS)
#define PAUSE_NS NS_PER_S

struct address {
    struct resolver *resolver;
    struct address *next;
    char *host, *port;
    bool known, asked;
    uint64_t ask_at_ns;
    struct sockaddr_storage address;
    socklen_t len;
};

struct resolver {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool started, over;
    struct address *first;
};

static void set_ipv4(struct sockaddr_storage *to, socklen_t *len, const void *address, int port) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    memcpy(&in.sin_addr, address, sizeof in.sin_addr);
    memcpy(to, &in, *len = sizeof in);
}

static void set_ipv6(struct sockaddr_storage *to, socklen_t *len, const void *address, int port) {
    struct sockaddr_in6 in = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    memcpy(&in.sin6_addr, address, sizeof in.sin6_addr);
    memcpy(to, &in, *len = sizeof in);
}

bool address_parse(const char *host, const char *port, struct sockaddr_storage *to, socklen_t *len) {
    unsigned char bytes[16];
    if (strcasecmp(host, "localhost") == 0) host = "127.0.0.1";
    if (inet_pton(AF_INET, host, bytes) == 1) set_ipv4(to, len, bytes, atoi(port));
    else if (inet_pton(AF_INET6, host, bytes) == 1) set_ipv6(to, len, bytes, atoi(port));
    else return false;
    return true;
}

struct resolver *resolver_new(void) {
    struct resolver *r = must_alloc(1, sizeof *r);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return r;
}

struct address *resolver_add(struct resolver *r, const char *host, const char *port) {
    struct address *a = must_alloc(1, sizeof *a);
    size_t host_len = strlen(host) + 1, port_len = strlen(port) + 1;
    a->host = memcpy(must_alloc(host_len, 1), host, host_len);
    a->port = memcpy(must_alloc(port_len, 1), port, port_len);
    a->resolver = r;
    a->known = address_parse(host, port, &a->address, &a->len);
    a->asked = !a->known;
    a->next = r->first;
    r->first = a;
    return a;
}

/* The first record of `type` among the answers. */
static bool find_record(const unsigned char *answer, int len, ns_type type, size_t size, unsigned char *to) {
    ns_msg message;
    ns_rr record;
    if (len < 0 || len > ANSWER_BYTES || ns_initparse(answer, len, &message) < 0) return false;
    for (int i = 0; i < ns_msg_count(message, ns_s_an); i++) {
        if (ns_parserr(&message, ns_s_an, i, &record) < 0) return false;
        if (ns_rr_type(record) != type || ns_rr_rdlen(record) != size) continue;
        memcpy(to, ns_rr_rdata(record), size);
        return true;
    }
    return false;
}

static bool look_up(const char *host, const char *port, struct sockaddr_storage *to, socklen_t *len) {
    struct __res_state state = {0};
    unsigned char answer[ANSWER_BYTES], bytes[16];
    bool found = false;
    if (res_ninit(&state) != 0) return false;
    int n = res_nsearch(&state, host, ns_c_in, ns_t_a, answer, sizeof answer);
    if (find_record(answer, n, ns_t_a, 4, bytes)) {
        set_ipv4(to, len, bytes, atoi(port));
        found = true;
    } else {
        n = res_nsearch(&state, host, ns_c_in, ns_t_aaaa, answer, sizeof answer);
        if ((found = find_record(answer, n, ns_t_aaaa, 16, bytes))) set_ipv6(to, len, bytes, atoi(port));
    }
    res_nclose(&state);
    return found;
}

/* The one that is to be asked for first; NULL where none is. Hosts and ports never change: no lock is needed to read. */
static struct address *most_urgent(struct resolver *r) {
    struct address *first = NULL;
    for (struct address *a = r->first; a; a = a->next) {
        if (a->asked && (!first || a->ask_at_ns < first->ask_at_ns)) first = a;
    }
    return first;
}

static void ask(struct resolver *r, struct address *a) {
    struct sockaddr_storage found;
    socklen_t len;
    a->asked = false;
    pthread_mutex_unlock(&r->lock);
    bool ok = look_up(a->host, a->port, &found, &len);
    pthread_mutex_lock(&r->lock);
    a->ask_at_ns = now_ns() + (a->known ? PAUSE_NS : SOON_NS);
    if (ok) {
        a->address = found;
        a->len = len;
        a->known = true;
        a->ask_at_ns = now_ns() + PAUSE_NS;
    } else {
        a->asked = true;
    }
}

static void *serve(void *argument) {
    struct resolver *r = argument;
    pthread_mutex_lock(&r->lock);
    while (!r->over) {
        struct address *a = most_urgent(r);
        if (!a) {
            pthread_cond_wait(&r->changed, &r->lock);
        } else if (a->ask_at_ns > now_ns()) {
            struct timespec until = ns_to_timespec(a->ask_at_ns);
            pthread_cond_timedwait(&r->changed, &r->lock, &until);
        } else {
            ask(r, a);
        }
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

int resolver_start(struct resolver *r) {
    if (!most_urgent(r)) return 0;
    int error = pthread_create(&r->thread, NULL, serve, r);
    r->started = error == 0;
    return error;
}

bool address_get(struct address *a, struct sockaddr_storage *to, socklen_t *len) {
    struct resolver *r = a->resolver;
    pthread_mutex_lock(&r->lock);
    bool known = a->known;
    if (known) memcpy(to, &a->address, *len = a->len);
    pthread_mutex_unlock(&r->lock);
    return known;
}

void address_doubt(struct address *a) {
    struct resolver *r = a->resolver;
    struct sockaddr_storage unused;
    socklen_t len;
    if (!r->started || address_parse(a->host, a->port, &unused, &len)) return;
    pthread_mutex_lock(&r->lock);
    a->asked = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

void resolver_free(struct resolver *r) {
    if (r->started) {
        pthread_mutex_lock(&r->lock);
        r->over = true;
        pthread_cond_signal(&r->changed);
        pthread_mutex_unlock(&r->lock);
        /* It may sit in a question for seconds; it is the last thing of a process that ends, and reads no more. */
        pthread_detach(r->thread);
        return;
    }
    for (struct address *a = r->first, *next; a; a = next) {
        next = a->next;
        free(a->host);
        free(a->port);
        free(a);
    }
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    free(r);
}
