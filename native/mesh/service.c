#include "mesh/service.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG 4096
#define ACCEPTS_AT_ONCE 64
#define SWEEP_NS NS_PER_S
#define DRAIN_NS (500 * NS_PER_MS)
#define ANSWER_HEAD_MAX 256

void service_bury(struct service *s, void *memory) { buffer_append(&s->graveyard, &memory, sizeof memory); }

static void free_buried(struct service *s) {
    void *memory;
    for (size_t at = 0; at < s->graveyard.len; at += sizeof memory) {
        memcpy(&memory, s->graveyard.data + at, sizeof memory);
        free(memory);
    }
    s->graveyard.len = 0;
}

static void sweep(void *owner) {
    struct service *s = owner;
    connection_sweep(s);
    if (s->connections) timer_set(&s->timers, &s->sweep, now_ns() + SWEEP_NS);
}

/* Without a descriptor to spare, a connection can be neither taken nor refused, and the listener stays ready. */
static void refuse_one(struct service *s) {
    close(s->spare_fd);
    int fd = accept4(s->listener.fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0) close(fd);
    s->spare_fd = dup(s->stop_fd);
}

static void listener_ready(struct stream *stream, uint32_t events) {
    struct service *s = (struct service *)((char *)stream - offsetof(struct service, listener));
    (void)events;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        int fd = accept4(stream->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) connection_accept(s, fd);
        else if (errno == EMFILE || errno == ENFILE) refuse_one(s);
        else if (errno != EINTR && errno != ECONNABORTED) break;
    }
    if (s->connections && !s->sweep.place) timer_set(&s->timers, &s->sweep, now_ns() + SWEEP_NS);
}

static void stop_ready(struct stream *stream, uint32_t events) {
    struct service *s = (struct service *)((char *)stream - offsetof(struct service, stop));
    (void)events;
    s->stopping = true;
    s->stop_by_ns = now_ns() + DRAIN_NS;
    stream_close(&s->listener);
}

static void computed_ready(struct stream *stream, uint32_t events) {
    struct service *s = (struct service *)((char *)stream - offsetof(struct service, computed));
    (void)events;
    compute_collect(s->compute);
}

static int say(const struct service *s, const char *what) {
    int error = errno;
    fprintf(stderr, "%s: cannot %s: %s\n", s->config->name, what, strerror(error));
    return -1;
}

static int listen_at(struct service *s) {
    struct sockaddr_storage address;
    socklen_t len;
    int one = 1;
    char port[8], what[160];
    snprintf(port, sizeof port, "%u", (unsigned)s->config->port);
    snprintf(what, sizeof what, "listen on %.100s:%s", s->config->host, port);
    errno = EINVAL;
    if (!address_parse(s->config->host, port, &address, &len)) return say(s, what);
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return say(s, what);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bool ok = bind(fd, (struct sockaddr *)&address, len) == 0 && listen(fd, BACKLOG) == 0;
    s->listener = (struct stream){.fd = fd, .ready = listener_ready};
    /* Not edge-triggered: what one turn leaves is there for the next. */
    if (ok && loop_add(&s->loop, fd, EPOLLIN, &s->listener) == 0) return 0;
    return say(s, what);
}

/* The body is JSON text of exactly that size. */
static void prepare_answer(struct route *route) {
    uint64_t size = route->endpoint->response_bytes;
    char head[ANSWER_HEAD_MAX];
    int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %llu\r\n\r\n",
                     (unsigned long long)size);
    buffer_append(&route->answer, head, route->answer_head = (size_t)n);
    char *body = must_alloc(size + 1, 1);
    memset(body, size >= 2 ? 'x' : '1', size);
    if (size >= 2) body[0] = body[size - 1] = '"';
    buffer_append(&route->answer, body, size);
    free(body);
}

static void prepare_route(struct route *route, const struct endpoint_config *endpoint) {
    route->endpoint = endpoint;
    prepare_answer(route);
    otlp_text_attribute(&route->attributes, "http.request.method", endpoint->method, strlen(endpoint->method), false);
    if (endpoint->pattern) {
        otlp_text_attribute(&route->attributes, "http.route", endpoint->path, strlen(endpoint->path), false);
    } else {
        otlp_text_attribute(&route->attributes, "url.path", endpoint->path, strlen(endpoint->path), false);
    }
}

static void prepare(struct service *s, struct resolver *resolver) {
    const struct service_config *config = s->config;
    s->routes = must_alloc(config->endpoint_count + 1, sizeof *s->routes);
    for (uint32_t i = 0; i < config->endpoint_count; i++) prepare_route(&s->routes[i], &config->endpoints[i]);
    s->caches = must_alloc(config->cache_count, sizeof *s->caches);
    for (uint32_t i = 0; i < config->cache_count; i++) s->caches[i] = lru_new(config->cache_capacities[i]);
    s->faults.end = (struct timer){.fire = faults_end, .owner = s};
    s->queue_end = &s->queue;
    s->sweep = (struct timer){.fire = sweep, .owner = s};
    rng_seed(&s->rng, config->seed);
    peers_open(s, resolver);
    struct address *otlp = config->has_otlp ? resolver_add(resolver, config->otlp.host, config->otlp.port) : NULL;
    tracer_open(&s->tracer, config, &s->loop, &s->timers, otlp, s->scratch, sizeof s->scratch);
}

int service_open(struct service *s, const struct service_config *config, struct resolver *resolver) {
    s->config = config;
    s->started_ns = now_ns();
    if (loop_open(&s->loop) < 0) return say(s, "wait for events");
    if (listen_at(s) < 0) return -1;
    s->compute = compute_new(config->threads, config->working_set_bytes);
    if (!s->compute) return say(s, "have its threads and working set");
    s->spare_fd = dup(s->stop_fd);
    s->stop = (struct stream){.fd = s->stop_fd, .ready = stop_ready};
    s->computed = (struct stream){.fd = compute_descriptor(s->compute), .ready = computed_ready};
    bool watched = loop_add(&s->loop, s->stop_fd, EPOLLIN | EPOLLET, &s->stop) == 0;
    if (watched && s->computed.fd >= 0) watched = loop_add(&s->loop, s->computed.fd, EPOLLIN, &s->computed) == 0;
    if (!watched) return say(s, "watch its descriptors");
    prepare(s, resolver);
    return 0;
}

/* Wait for events until a moment at most. As much of it as waking takes is not slept but looked away. */
static int wait_until(struct service *s, uint64_t deadline_ns) {
    uint64_t lead = waking_lead_ns(&s->waking), began = now_ns();
    uint64_t wanted = deadline_ns == LOOP_FOREVER || deadline_ns < lead ? deadline_ns : deadline_ns - lead;
    int n = loop_wait(&s->loop, wanted);
    if (n == 0 && wanted > began) waking_learn(&s->waking, wanted, now_ns());
    return n;
}

void service_turn(struct service *s, uint64_t deadline_ns) {
    uint64_t timer_ns = timers_next_ns(&s->timers);
    int n = wait_until(s, timer_ns < deadline_ns ? timer_ns : deadline_ns);
    for (int i = 0; i < n; i++) {
        struct stream *stream = s->loop.events[i].data.ptr;
        if (stream && stream->fd >= 0) stream->ready(stream, s->loop.events[i].events);
    }
    free_buried(s);
    timers_fire(&s->timers, now_ns());
    free_buried(s);
}

void service_run(struct service *s) {
    loop_sharpen_timers();
    while (!s->stopping || (s->in_flight && now_ns() < s->stop_by_ns)) {
        service_turn(s, s->stopping ? s->stop_by_ns : LOOP_FOREVER);
    }
}
