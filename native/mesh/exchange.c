/* A request from its head to its answer: admission, span and metrics. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/service.h"

#define TRACESTATE_MAX 512u /* as much as the recommendation asks to hand on */

struct headers {
    struct http_text traceparent, tracestate;
    struct b3_headers b3;
};

static void read_headers(struct headers *h, const char *data, size_t len, const struct http_head *head) {
    struct http_text name, value;
    size_t at = head->fields_at;
    while (http_next_field(data, len, &at, &name, &value)) {
        switch (name.len) { /* most headers are none of these, and are passed by with one look */
        case 10:
            if (http_text_is(name, "tracestate")) h->tracestate = value;
            break;
        case 2:
        case 9:
        case 12:
            b3_take(&h->b3, name, value);
            break;
        case 11:
            if (http_text_is(name, "traceparent")) h->traceparent = value;
            else b3_take(&h->b3, name, value);
            break;
        default:
            break;
        }
    }
}

/* The path and query of a target in origin or absolute form. */
static struct http_text origin_form(struct http_text target) {
    struct http_text scheme = {target.data, target.len < 7 ? target.len : 7};
    if (!http_text_is(scheme, "http://")) return target;
    const char *slash = memchr(target.data + 7, '/', target.len - 7);
    if (!slash) return (struct http_text){"/", 1};
    return (struct http_text){slash, target.len - (size_t)(slash - target.data)};
}

static struct http_text keep(char **to, struct http_text text) {
    struct http_text kept = {*to, text.len};
    if (text.len) memcpy(*to, text.data, text.len);
    *to += text.len;
    return kept;
}

struct exchange *exchange_new(struct connection *c, const char *data, size_t len, const struct http_head *head) {
    struct headers headers = {.traceparent = {0}};
    read_headers(&headers, data, len, head);
    if (headers.tracestate.len > TRACESTATE_MAX) headers.tracestate.len = 0;
    struct exchange *e = must_alloc(1, sizeof *e + head->method.len + head->target.len + headers.tracestate.len + 1);
    char *text = e->text;
    e->service = c->service;
    e->connection = c;
    e->start_ns = now_ns();
    e->start_unix_ns = clock_read_ns(CLOCK_REALTIME);
    e->method = keep(&text, head->method);
    e->path = keep(&text, origin_form(head->target));
    const char *mark = memchr(e->path.data, '?', e->path.len);
    if (mark) {
        e->query = (struct http_text){mark + 1, e->path.len - (size_t)(mark + 1 - e->path.data)};
        e->path.len = (size_t)(mark - e->path.data);
    }
    e->to_head = http_text_equals(e->method, "HEAD");
    e->close = head->close;
    if (traceparent_read(headers.traceparent, &e->parent)) e->tracestate = keep(&text, headers.tracestate);
    else if (!b3_read(&headers.b3, &e->parent)) e->parent = (struct span_context){.sampled = false};
    return e;
}

void exchange_fail(struct exchange *e, int status, const char *format, ...) {
    va_list arguments;
    if (*e->failure) return;
    e->status = status;
    va_start(arguments, format);
    vsnprintf(e->failure, sizeof e->failure, format, arguments);
    va_end(arguments);
}

/* ---- admission */

static void run(void *owner) {
    struct exchange *e = owner;
    e->root = (struct branch){.exchange = e, .steps = &e->route->endpoint->steps};
    branch_run(&e->root);
}

/* Begin to work on it, as the faults in force want it. */
static void work_on(struct exchange *e) {
    struct service *s = e->service;
    const struct faults *faults = &s->faults;
    s->working++;
    e->works = true;
    if (e->stalled_ns) e->delayed_ns += now_ns() - e->stalled_ns;
    e->disturbed = e->stalled_ns || faults->delay_ms > 0;
    if (faults->fail_rate > 0 && rng_unit(&s->rng) < faults->fail_rate) {
        e->disturbed = true;
        exchange_fail(e, faults->fail_status, "fails, as /-/faults says");
        exchange_end(e);
    } else if (faults->delay_ms > 0) {
        e->timer = (struct timer){.fire = run, .owner = e};
        uint64_t delay_ns = (uint64_t)(faults->delay_ms * 1e6);
        e->delayed_ns += delay_ns;
        timer_set(&s->timers, &e->timer, now_ns() + delay_ns);
    } else {
        run(e);
    }
}

static bool has_worker(const struct service *s) {
    return !s->faults.stall && (!s->config->workers || s->working < s->config->workers);
}

void exchange_admit(struct service *s) {
    if (s->admitting) return; /* what ends at once in the loop below makes room for its next turn */
    s->admitting = true;
    while (s->queue && has_worker(s)) {
        struct exchange *e = s->queue;
        s->queue = e->next;
        if (!s->queue) s->queue_end = &s->queue;
        s->queued--;
        work_on(e);
    }
    s->admitting = false;
}

void exchange_begin(struct exchange *e) {
    struct service *s = e->service;
    bool path_known;
    s->in_flight++;
    e->route = route_find(s, e, &path_known);
    bool found = e->route != NULL;
    if (!found) e->route = &s->routes[s->config->endpoint_count];
    if (s->tracer.enabled) e->context = tracer_serve(&s->tracer, &e->parent);
    else e->context = e->parent; /* handed on as it came */
    if (!found) {
        exchange_fail(e, path_known ? 405 : 404, "no endpoint %.*s %.*s", (int)e->method.len, e->method.data,
                      (int)e->path.len, e->path.data);
    }
    if (!found || !route_check_parameters(e)) {
        exchange_end(e);
    } else if (has_worker(s) && !s->queue) {
        work_on(e);
    } else if (s->queued >= s->config->queue) {
        exchange_fail(e, STATUS_UNAVAILABLE, "its queue is full");
        exchange_end(e);
    } else {
        if (s->faults.stall) e->stalled_ns = now_ns();
        *s->queue_end = e;
        s->queue_end = &e->next;
        s->queued++;
    }
}

/* ---- the end */

static const char *known_method(struct http_text method) {
    static const char *const known[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (http_text_equals(method, known[i])) return known[i];
    }
    return "_OTHER";
}

static void end_span(struct exchange *e, int status, uint64_t duration_ns) {
    const struct endpoint_config *endpoint = e->route->endpoint;
    struct buffer attributes = {0};
    const char *method = endpoint ? NULL : known_method(e->method);
    struct span span = {.kind = SPAN_SERVER, .context = e->context, .parent = e->parent,
                        .name = endpoint ? endpoint->name : method, .start_unix_ns = e->start_unix_ns,
                        .end_unix_ns = e->start_unix_ns + duration_ns, .attributes = &e->route->attributes,
                        .status_code = status, .failure = status >= 500 ? e->failure : NULL};
    if (!endpoint) {
        otlp_text_attribute(&attributes, "http.request.method", method, strlen(method), false);
        span.attributes = &attributes;
    } else if (endpoint->pattern) {
        span.path = e->path;
    }
    tracer_end(&e->service->tracer, &span);
    buffer_free(&attributes);
}

void exchange_end(struct exchange *e) {
    struct service *s = e->service;
    int status = *e->failure ? e->status : 200;
    uint64_t duration_ns = now_ns() - e->start_ns;
    bool worked = e->works;
    if (s->tracer.enabled && e->context.sampled) end_span(e, status, duration_ns);
    metrics_record(e->route, status, duration_ns);
    s->in_flight--;
    s->faults.requests++;
    s->faults.disturbed += e->disturbed;
    s->faults.delayed_ns += e->delayed_ns;
    if (worked) s->working--;
    if (status == 200) connection_answer_prepared(e, &e->route->answer, e->route->answer_head);
    else control_refuse(e, status, e->failure);
    if (worked && s->queue) exchange_admit(s);
}
