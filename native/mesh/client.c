/* Calls of peers: kept connections, balance over replicas, time-outs, retries within a budget, a circuit breaker. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/service.h"

#define SPARE_RETRIES 10.0 /* beyond the share that a budget admits */
#define BODY_PIECE 4096u

static void attempt(struct call *call);
static void attempt_ended(struct call *call, const char *failure, int status);
static void link_ready(struct stream *stream, uint32_t events);

/* ---- connections */

static void link_leave(struct link *l) {
    if (l->previous) l->previous->next = l->next;
    else l->replica->links = l->next;
    if (l->next) l->next->previous = l->previous;
    l->previous = l->next = NULL;
}

static void link_enter(struct link *l) {
    l->next = l->replica->links;
    if (l->next) l->next->previous = l;
    l->replica->links = l;
}

static void link_close(struct link *l) {
    if (!l->call) link_leave(l);
    stream_close(&l->stream);
    http_reader_free(&l->reader);
    service_bury(l->replica->peer->service, l);
}

static int link_send(struct link *l) { return stream_send(&l->stream, l->call->request.data, l->call->request.len); }

/* Return NULL, or why there is no connection. */
static const char *link_open(struct call *call) {
    struct replica *replica = call->replica;
    struct service *s = replica->peer->service;
    struct sockaddr_storage address;
    socklen_t len;
    if (!address_get(replica->address, &address, &len)) return "its name is not known (yet)";
    struct link *l = must_alloc(1, sizeof *l);
    int error = stream_connect(&l->stream, &s->loop, (struct sockaddr *)&address, len, link_ready);
    if (error) {
        free(l);
        return strerror(error);
    }
    l->replica = replica;
    l->call = call;
    l->connecting = true;
    call->link = l;
    http_reader_start(&l->reader, false, false);
    return NULL;
}

/* The response has come whole: the link is idle again, or at its end. */
static void response_came(struct link *l, bool reusable) {
    struct call *call = l->call;
    int status = l->reader.head.status;
    l->call = NULL;
    l->served = true;
    call->link = NULL;
    link_enter(l);
    if (!reusable) link_close(l);
    attempt_ended(call, NULL, status);
}

/* The connection is of no more use. Where it had served before and not a byte has come, the server may just have closed
 * it: the request goes out again on a new one. */
static void link_failed(struct link *l, const char *why) {
    struct call *call = l->call;
    bool stale = call && l->served && !l->reader.started && call->step->idempotent;
    link_close(l);
    if (!call) return;
    call->link = NULL;
    if (stale) {
        const char *failure = link_open(call);
        if (failure) attempt_ended(call, failure, 0);
        return;
    }
    attempt_ended(call, why, 0);
}

static void link_read(struct link *l) {
    struct service *s = l->replica->peer->service;
    for (;;) {
        ssize_t n = recv(l->stream.fd, s->scratch, sizeof s->scratch, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) {
            link_failed(l, strerror(errno));
            return;
        }
        if (!l->call || n == 0) { /* an idle server closes, or says what nobody asked for */
            bool whole = l->call && http_reader_ends_at_close(&l->reader);
            if (whole) response_came(l, false);
            else link_failed(l, "the connection was closed");
            return;
        }
        ssize_t used = http_reader_feed(&l->reader, s->scratch, (size_t)n);
        if (used == HTTP_BAD) {
            link_failed(l, "a malformed response");
            return;
        }
        if (used >= 0) {
            response_came(l, used == n && !l->reader.head.close && stream_flushed(&l->stream));
            return;
        }
        if ((size_t)n < sizeof s->scratch) return;
    }
}

static void link_ready(struct stream *stream, uint32_t events) {
    struct link *l = (struct link *)stream;
    if (l->connecting && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
        int error = stream_connected(stream);
        l->connecting = false;
        if (error) address_doubt(l->replica->address);
        if (!error) error = link_send(l);
        if (error) {
            link_failed(l, strerror(error));
            return;
        }
    } else if (events & EPOLLOUT && !stream_flushed(stream)) {
        int error = stream_flush(stream);
        if (error) {
            link_failed(l, strerror(error));
            return;
        }
    }
    if (events & (EPOLLIN | EPOLLERR)) link_read(l);
    /* A read that fell short of the buffer took all there was, but for the end. */
    if (events & (EPOLLRDHUP | EPOLLHUP) && stream->fd >= 0) link_read(l);
}

/* ---- peers */

static bool breaker_refuses(struct peer *p, struct call *call) {
    if (!p->open_until_ns) return false;
    if (p->trying || now_ns() < p->open_until_ns) return true;
    p->trying = call->trial = true;
    return false;
}

static void breaker_hears(struct peer *p, struct call *call, bool failed) {
    if (call->trial) p->trying = call->trial = false;
    p->failures_in_row = failed ? p->failures_in_row + 1 : 0;
    if (!failed) p->open_until_ns = 0;
    else if (p->config->breaker_failures && p->failures_in_row >= p->config->breaker_failures) {
        p->open_until_ns = now_ns() + p->config->breaker_open_ns;
    }
}

static struct replica *choose_replica(struct peer *p) {
    uint32_t count = p->config->url_count, first = p->turn++ % count;
    struct replica *best = &p->replicas[first];
    if (p->config->balance == BALANCE_ROUND_ROBIN) return best;
    for (uint32_t i = 1; i < count; i++) { /* among equals, take turns */
        struct replica *other = &p->replicas[(first + i) % count];
        if (other->outstanding < best->outstanding) best = other;
    }
    return best;
}

/* ---- requests */

/* The path with the parameters it names; false where one is missing. */
static bool put_path(struct buffer *to, const struct call_step *step, struct exchange *e) {
    for (const char *at = step->path; *at;) {
        const char *close = *at == '{' ? strchr(at, '}') : NULL;
        struct http_text value;
        char name[128];
        if (!close) {
            size_t len = 1 + strcspn(at + 1, "{");
            buffer_append(to, at, len);
            at += len;
            continue;
        }
        snprintf(name, sizeof name, "%.*s", (int)(close - at - 1), at + 1);
        if (!exchange_parameter(e, name, &value)) {
            exchange_fail(e, STATUS_BAD_GATEWAY, "call of %s: %s: no parameter %s", step->peer->name, step->name, name);
            return false;
        }
        for (size_t i = 0; i < value.len; i++) { /* a query's '+' is a space, a path's is not */
            if (value.data[i] == '+') buffer_text(to, "%20");
            else buffer_append(to, value.data + i, 1);
        }
        at = close + 1;
    }
    if (step->forward_query && e->query.len) {
        buffer_append(to, "?", 1);
        buffer_append(to, e->query.data, e->query.len);
    }
    return true;
}

static void put_body(struct buffer *to, uint64_t bytes) {
    static const char piece[BODY_PIECE] = {0};
    for (uint64_t left = bytes; left;) {
        size_t n = left < sizeof piece ? (size_t)left : sizeof piece;
        buffer_append(to, piece, n);
        left -= n;
    }
}

static bool write_request(struct call *call) {
    const struct call_step *step = call->step;
    struct exchange *e = call->branch->exchange;
    struct buffer *to = &call->request;
    to->len = 0;
    buffer_text(to, step->method);
    buffer_append(to, " ", 1);
    if (!put_path(to, step, e)) return false;
    buffer_text(to, " HTTP/1.1\r\nHost: ");
    buffer_text(to, call->replica->url->authority);
    if (span_context_is_set(&call->context)) {
        char traceparent[TRACEPARENT_LEN];
        traceparent_write(&call->context, traceparent);
        buffer_text(to, "\r\ntraceparent: ");
        buffer_append(to, traceparent, sizeof traceparent);
        if (e->tracestate.len) {
            buffer_text(to, "\r\ntracestate: ");
            buffer_append(to, e->tracestate.data, e->tracestate.len);
        }
    }
    if (step->request_bytes) {
        char length[64];
        int n = snprintf(length, sizeof length, "\r\nContent-Length: %llu", (unsigned long long)step->request_bytes);
        buffer_append(to, length, (size_t)n);
    }
    buffer_append(to, "\r\n\r\n", 4);
    put_body(to, step->request_bytes);
    return true;
}

/* ---- calls */

static void timer_over(void *owner) {
    struct call *call = owner;
    if (!call->link) { /* the back-off is over */
        attempt(call);
        return;
    }
    struct link *l = call->link;
    call->link = NULL;
    link_close(l); /* its response may still come: it carries nothing else */
    attempt_ended(call, "timed out", 0);
}

static void record_span(struct call *call, const char *failure, int status) {
    struct exchange *e = call->branch->exchange;
    struct tracer *t = &e->service->tracer;
    struct buffer attributes = {0};
    const struct call_step *step = call->step;
    if (!t->enabled || !call->context.sampled) return;
    otlp_text_attribute(&attributes, "http.request.method", step->method, strlen(step->method), false);
    otlp_text_attribute(&attributes, "url.path", step->path, strlen(step->path), false);
    otlp_text_attribute(&attributes, "peer.service", step->peer->name, strlen(step->peer->name), false);
    struct span span = {.kind = SPAN_CLIENT, .context = call->context, .parent = e->context, .name = step->name,
                        .start_unix_ns = call->start_unix_ns,
                        .end_unix_ns = call->start_unix_ns + (now_ns() - call->start_ns), .attributes = &attributes,
                        .status_code = status, .resend_count = call->retried, .failure = failure};
    tracer_end(t, &span);
    buffer_free(&attributes);
}

static void call_free(struct call *call) {
    buffer_free(&call->request);
    free(call);
}

/* Whether it may be tried again, and if so, that it will be. */
static bool retry(struct call *call) {
    struct peer *p = call->replica->peer;
    struct service *s = p->service;
    double budget = p->config->retry_budget, factor = 1.0;
    if (call->retried >= call->step->attempts) return false;
    if (budget >= 0 && (double)p->retries >= budget * (double)p->first_attempts + SPARE_RETRIES) return false;
    for (uint32_t i = 0; i < call->retried && factor < 1e9; i++) factor *= 2;
    double most_ms = call->step->backoff_ms * factor;
    if (most_ms > call->step->backoff_max_ms) most_ms = call->step->backoff_max_ms;
    p->retries++;
    call->retried++;
    timer_set(&s->timers, &call->timer, now_ns() + (uint64_t)(rng_unit(&s->rng) * most_ms * 1e6));
    return true;
}

/* `failure` NULL: it was answered with `status`. */
static void attempt_ended(struct call *call, const char *failure, int status) {
    struct branch *branch = call->branch;
    struct exchange *e = branch->exchange;
    const struct call_step *step = call->step;
    char text[32];
    timer_unset(&e->service->timers, &call->timer);
    call->replica->outstanding--;
    bool may_pass = !call->refused && (failure || status >= 500);
    if (!failure && status >= 400) {
        snprintf(text, sizeof text, "status %d", status);
        failure = text;
    }
    record_span(call, failure, status);
    if (!call->refused) breaker_hears(call->replica->peer, call, may_pass);
    if (may_pass && retry(call)) return;
    if (failure) {
        exchange_fail(e, STATUS_BAD_GATEWAY, "call of %s failed: %s: %s", step->peer->name, step->name, failure);
    }
    call_free(call);
    branch_resume(branch, failure != NULL);
}

/* Take an idle connection or a new one. */
static const char *send_request(struct call *call) {
    struct link *l = call->replica->links;
    if (!l) return link_open(call);
    link_leave(l);
    l->call = call;
    call->link = l;
    http_reader_start(&l->reader, false, false);
    int error = link_send(l);
    if (!error) return NULL;
    call->link = NULL;
    link_close(l);
    return link_open(call);
}

static void attempt(struct call *call) {
    struct exchange *e = call->branch->exchange;
    struct service *s = e->service;
    struct peer *p = &s->peers[call->step->peer->index];
    call->replica = choose_replica(p);
    call->replica->outstanding++;
    call->start_ns = now_ns();
    call->start_unix_ns = clock_read_ns(CLOCK_REALTIME);
    call->context = s->tracer.enabled ? tracer_child(&s->tracer, &e->context) : e->context;
    const char *failure = NULL;
    if (!write_request(call)) failure = "a parameter is missing";
    else if (breaker_refuses(p, call)) failure = "the circuit is open";
    call->refused = failure != NULL;
    if (!failure) {
        timer_set(&s->timers, &call->timer, call->start_ns + call->step->timeout_ns);
        failure = send_request(call);
    }
    if (failure) attempt_ended(call, failure, 0);
}

void call_begin(struct branch *branch, const struct call_step *step) {
    struct service *s = branch->exchange->service;
    struct call *call = must_alloc(1, sizeof *call);
    call->branch = branch;
    call->step = step;
    call->timer = (struct timer){.fire = timer_over, .owner = call};
    s->peers[step->peer->index].first_attempts++;
    attempt(call);
}

void peers_open(struct service *s, struct resolver *resolver) {
    s->peers = must_alloc(s->config->peer_count, sizeof *s->peers);
    for (uint32_t i = 0; i < s->config->peer_count; i++) {
        struct peer *p = &s->peers[i];
        p->service = s;
        p->config = &s->config->peers[i];
        p->replicas = must_alloc(p->config->url_count, sizeof *p->replicas);
        for (uint32_t k = 0; k < p->config->url_count; k++) {
            const struct url *url = &p->config->urls[k];
            p->replicas[k] = (struct replica){.peer = p, .url = url,
                                              .address = resolver_add(resolver, url->host, url->port)};
        }
    }
}

const char *peers_unknown(struct service *s) {
    struct sockaddr_storage address;
    socklen_t len;
    for (uint32_t i = 0; i < s->config->peer_count; i++) {
        for (uint32_t k = 0; k < s->peers[i].config->url_count; k++) {
            if (!address_get(s->peers[i].replicas[k].address, &address, &len)) return s->peers[i].config->name;
        }
    }
    return NULL;
}
