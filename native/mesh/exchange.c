/* A request from its head to its answer: routing, parameters, admission, span and metrics. */
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
    e->to_head = e->method.len == 4 && memcmp(e->method.data, "HEAD", 4) == 0;
    e->close = head->close;
    if (traceparent_read(headers.traceparent, &e->parent)) e->tracestate = keep(&text, headers.tracestate);
    else if (!b3_read(&headers.b3, &e->parent)) e->parent = (struct span_context){.sampled = false};
    return e;
}

/* ---- parameters */

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* Compare a name in a query, which may be percent-encoded, with a plain one. */
static bool query_name_is(const char *text, size_t len, const char *name) {
    size_t at = 0;
    for (; at < len && *name; name++) {
        char c = text[at++];
        if (c == '+') c = ' ';
        if (c == '%' && at + 2 <= len && hex_value(text[at]) >= 0 && hex_value(text[at + 1]) >= 0) {
            c = (char)(hex_value(text[at]) * 16 + hex_value(text[at + 1]));
            at += 2;
        }
        if (c != *name) return false;
    }
    return at == len && !*name;
}

static bool query_parameter(struct http_text query, const char *name, struct http_text *value) {
    if (query.len == 0) return false;
    const char *at = query.data, *end = query.data + query.len;
    while (at < end) {
        const char *amp = memchr(at, '&', (size_t)(end - at)), *stop = amp ? amp : end;
        const char *equals = memchr(at, '=', (size_t)(stop - at)), *name_end = equals ? equals : stop;
        if (query_name_is(at, (size_t)(name_end - at), name)) {
            *value = (struct http_text){equals ? equals + 1 : stop, equals ? (size_t)(stop - equals - 1) : 0};
            return true;
        }
        at = stop + 1;
    }
    return false;
}

static size_t segment_len(const char *at, const char *end) {
    const char *slash = memchr(at, '/', (size_t)(end - at));
    return (size_t)((slash ? slash : end) - at);
}

/* Lay a path over a pattern; where `name` is given, find the segment that it takes. */
static bool pattern_fits(const char *pattern, struct http_text path, const char *name, struct http_text *value) {
    const char *p = pattern, *p_end = pattern + strlen(pattern), *c = path.data, *c_end = path.data + path.len;
    for (;;) {
        size_t n = segment_len(p, p_end), m = segment_len(c, c_end);
        if (n > 2 && *p == '{' && p[n - 1] == '}') {
            if (m == 0) return false;
            if (name && strlen(name) == n - 2 && memcmp(name, p + 1, n - 2) == 0) *value = (struct http_text){c, m};
        } else if (n != m || memcmp(p, c, n) != 0) {
            return false;
        }
        p += n;
        c += m;
        if (p == p_end || c == c_end) return p == p_end && c == c_end;
        p++;
        c++;
    }
}

bool exchange_parameter(const struct exchange *e, const char *name, struct http_text *value) {
    const struct endpoint_config *endpoint = e->route->endpoint;
    *value = (struct http_text){0};
    if (endpoint->pattern && pattern_fits(endpoint->path, e->path, name, value) && value->data) return true;
    return query_parameter(e->query, name, value);
}

/* ---- routing */

static bool text_equals(struct http_text text, const char *other) {
    return strlen(other) == text.len && memcmp(text.data, other, text.len) == 0;
}

/* *path_known: another method would have found one. */
static struct route *find_route(struct service *s, const struct exchange *e, bool *path_known) {
    struct route *found = NULL;
    *path_known = false;
    for (uint32_t i = 0; i < s->config->endpoint_count; i++) {
        const struct endpoint_config *endpoint = &s->config->endpoints[i];
        bool fits = endpoint->pattern ? !found && pattern_fits(endpoint->path, e->path, NULL, NULL)
                                      : text_equals(e->path, endpoint->path);
        if (!fits) continue;
        *path_known = true;
        if (!text_equals(e->method, endpoint->method)) continue;
        found = &s->routes[i];
        if (!endpoint->pattern) break;
    }
    return found;
}

static bool check_parameters(struct exchange *e) {
    const struct endpoint_config *endpoint = e->route->endpoint;
    char missing[FAILURE_MAX / 2] = "";
    struct http_text value;
    for (uint32_t i = 0; i < endpoint->parameter_count; i++) {
        if (query_parameter(e->query, endpoint->parameters[i], &value)) continue;
        size_t len = strlen(missing);
        snprintf(missing + len, sizeof missing - len, "%s%s", len ? ", " : "", endpoint->parameters[i]);
    }
    if (*missing) exchange_fail(e, 400, "%s requires %s", endpoint->name, missing);
    return !*missing;
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
    e->route = find_route(s, e, &path_known);
    bool found = e->route != NULL;
    if (!found) e->route = &s->routes[s->config->endpoint_count];
    if (s->tracer.enabled) e->context = tracer_serve(&s->tracer, &e->parent);
    else e->context = e->parent; /* handed on as it came */
    if (!found) {
        exchange_fail(e, path_known ? 405 : 404, "no endpoint %.*s %.*s", (int)e->method.len, e->method.data,
                      (int)e->path.len, e->path.data);
    }
    if (!found || !check_parameters(e)) {
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
        if (text_equals(method, known[i])) return known[i];
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
