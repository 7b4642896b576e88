/* Calls of peers, each of one attempt or more: time-outs, retries within a budget, spans. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/service.h"

#define SPARE_RETRIES 10.0 /* beyond the share that a budget admits */
#define BODY_PIECE 4096u

static void attempt(struct call *call);

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
    call_attempt_ended(call, "timed out", 0);
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

void call_attempt_ended(struct call *call, const char *failure, int status) {
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

static void attempt(struct call *call) {
    struct exchange *e = call->branch->exchange;
    struct service *s = e->service;
    struct peer *p = &s->peers[call->step->peer->index];
    call->replica = replica_choose(p);
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
        failure = link_request(call);
    }
    if (failure) call_attempt_ended(call, failure, 0);
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
