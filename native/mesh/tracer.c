#include "mesh/tracer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "clock.h"

#define BATCH_SPANS 1024u /* few, so that no export is a burst of load by itself */
#define BATCH_BYTES (1u << 20)
#define PATIENCE_NS (5 * NS_PER_S) /* of one who waits for a flush, without any delivery */
#define ATTEMPT_NS (10 * NS_PER_S)
#define PAUSE_NS NS_PER_S
#define SHORT_PAUSE_NS (100 * NS_PER_MS) /* while somebody waits */

static void export_next(struct tracer *t);

static void attempt_failed(struct tracer *t);

static void timer_over(void *owner) {
    struct tracer *t = owner;
    if (t->state != EXPORT_PAUSE) {
        attempt_failed(t);
        return;
    }
    t->state = EXPORT_IDLE;
    export_next(t);
}

static void patience_over(void *owner);

static void interval_over(void *owner) {
    struct tracer *t = owner;
    timer_set(t->timers, &t->interval, now_ns() + t->config->export_interval_ns);
    t->due = t->ended;
    export_next(t);
}

/* OTEL_RESOURCE_ATTRIBUTES: "name=value,name=value" (OpenTelemetry's specification of the environment). */
static void add_environment(struct buffer *resource) {
    const char *at = getenv("OTEL_RESOURCE_ATTRIBUTES");
    while (at && *at) {
        size_t len = strcspn(at, ","), name_len = strcspn(at, "=");
        char name[128];
        if (name_len > 0 && name_len < len && name_len < sizeof name) {
            snprintf(name, sizeof name, "%.*s", (int)name_len, at);
            otlp_text_attribute(resource, name, at + name_len + 1, len - name_len - 1, true);
        }
        at += len + (at[len] == ',');
    }
}

static void describe(struct tracer *t) {
    const struct service_config *c = t->config;
    otlp_text_attribute(&t->resource, "service.name", c->name, strlen(c->name), true);
    otlp_text_attribute(&t->resource, "service.namespace", c->app, strlen(c->app), true);
    for (uint32_t i = 0; i < c->label_count; i++) {
        otlp_text_attribute(&t->resource, c->labels[i].name, c->labels[i].value, strlen(c->labels[i].value), true);
    }
    add_environment(&t->resource);
}

void tracer_open(struct tracer *t, const struct service_config *config, struct loop *loop, struct timers *timers,
                 struct address *address, char *scratch, size_t scratch_size) {
    uint64_t seed;
    *t = (struct tracer){.config = config, .loop = loop, .timers = timers, .address = address, .scratch = scratch,
                         .scratch_size = scratch_size, .stream.fd = -1};
    t->timer = (struct timer){.fire = timer_over, .owner = t};
    t->patience = (struct timer){.fire = patience_over, .owner = t};
    t->interval = (struct timer){.fire = interval_over, .owner = t};
    t->enabled = config->has_otlp;
    /* Ids come from the system, not from the run's seed: two runs never share a trace. */
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = now_ns() ^ (uint64_t)(uintptr_t)t;
    rng_seed(&t->ids, seed);
    t->sample_bound = config->sample_ratio * 0x1p64;
    if (!t->enabled) return;
    describe(t);
    if (config->export_interval_ns) timer_set(timers, &t->interval, now_ns() + config->export_interval_ns);
}

static void draw_id(struct tracer *t, uint8_t *to) {
    uint64_t bits = rng_next(&t->ids);
    if (!bits) bits = 1;
    memcpy(to, &bits, sizeof bits);
}

struct span_context tracer_child(struct tracer *t, const struct span_context *parent) {
    struct span_context context = *parent;
    draw_id(t, context.span);
    return context;
}

struct span_context tracer_serve(struct tracer *t, const struct span_context *parent) {
    struct span_context context = {.sampled = true};
    uint64_t low = 0;
    if (span_context_is_set(parent)) return tracer_child(t, parent);
    draw_id(t, context.trace);
    draw_id(t, context.trace + 8);
    draw_id(t, context.span);
    for (int i = 8; i < 16; i++) low = low << 8 | context.trace[i];
    context.sampled = (double)low < t->sample_bound;
    return context;
}

static struct span_batch *open_batch(struct tracer *t) {
    struct span_batch *batch = t->last;
    /* The first may be on its way: it is closed then. */
    bool closed = batch && batch == t->first && t->state != EXPORT_IDLE;
    if (batch && !closed && batch->count < BATCH_SPANS && batch->spans.len < BATCH_BYTES) return batch;
    batch = t->spare ? t->spare : must_alloc(1, sizeof *batch);
    t->spare = NULL;
    batch->next = NULL;
    batch->count = 0;
    batch->spans.len = 0;
    if (t->last) t->last->next = batch;
    else t->first = batch;
    return t->last = batch;
}

void tracer_end(struct tracer *t, const struct span *span) {
    if (!t->enabled || !span->context.sampled) return;
    t->ended++;
    if (t->waiting >= t->config->span_queue) {
        t->dropped++;
        return;
    }
    struct span_batch *batch = open_batch(t);
    otlp_span(&batch->spans, span);
    batch->count++;
    if (++t->waiting >= t->config->span_queue / 2 && t->state == EXPORT_IDLE) export_next(t);
}

/* Spans that need no more care. */
static uint64_t taken(const struct tracer *t) { return t->exported + t->failed + t->dropped; }

static void tell_waiters(struct tracer *t) {
    struct flush_waiter **link = &t->waiters;
    while (*link) {
        struct flush_waiter *waiter = *link;
        if (waiter->until > taken(t)) {
            link = &waiter->next;
            continue;
        }
        *link = waiter->next;
        bool complete = t->failed == waiter->failed_before;
        waiter->done(waiter, (struct flush_result){t->exported, t->dropped + t->failed, complete});
    }
    if (!t->waiters) timer_unset(t->timers, &t->patience);
}

void tracer_flush(struct tracer *t, struct flush_waiter *waiter) {
    waiter->until = t->ended;
    waiter->failed_before = t->failed;
    waiter->next = t->waiters;
    if (!t->waiters) timer_set(t->timers, &t->patience, now_ns() + PATIENCE_NS);
    t->waiters = waiter;
    t->due = t->ended;
    if (t->state == EXPORT_PAUSE) t->state = EXPORT_IDLE;
    export_next(t);
}

/* Take the first batch off the queue. */
static void finish_batch(struct tracer *t, bool delivered) {
    struct span_batch *batch = t->first;
    timer_unset(t->timers, &t->timer);
    t->state = EXPORT_IDLE;
    *(delivered ? &t->exported : &t->failed) += batch->count;
    t->waiting -= batch->count;
    t->first = batch->next;
    if (!t->first) t->last = NULL;
    if (t->spare) {
        buffer_free(&batch->spans);
        free(batch);
    } else {
        t->spare = batch;
    }
}

/* Something went wrong that may pass: again after a pause. Spans wait meanwhile, as far as the queue has room. */
static void attempt_failed(struct tracer *t) {
    uint64_t pause = t->used ? 0 : t->waiters ? SHORT_PAUSE_NS : PAUSE_NS; /* a used connection may have been stale */
    if (!t->used) address_doubt(t->address);
    stream_close(&t->stream);
    t->used = false;
    t->state = EXPORT_PAUSE;
    timer_set(t->timers, &t->timer, now_ns() + pause);
}

/* Who waits for a flush hears of its failure, and what it was to deliver is given up. */
static void patience_over(void *owner) {
    struct tracer *t = owner;
    stream_close(&t->stream);
    t->used = false;
    while (t->waiters && t->first) {
        finish_batch(t, false);
        tell_waiters(t);
    }
    t->state = EXPORT_IDLE;
    export_next(t);
}

static void send_batch(struct tracer *t) {
    const struct url *url = &t->config->otlp;
    struct buffer head = {0}, frame = {0};
    char start[1024];
    struct span_batch *batch = t->first;
    otlp_request_head(&frame, &t->resource, batch->spans.len);
    snprintf(start, sizeof start, "POST %s%.*s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-protobuf\r\n"
             "Content-Length: %zu\r\n\r\n", *url->path == '/' ? "" : "/", (int)(url->path_len > 500 ? 500 : url->path_len),
             url->path, url->authority, frame.len + batch->spans.len);
    buffer_text(&head, start);
    buffer_append(&head, frame.data, frame.len);
    http_reader_start(&t->reader, false, false);
    t->state = EXPORT_SENT;
    int error = stream_send(&t->stream, head.data, head.len);
    if (!error) error = stream_send(&t->stream, batch->spans.data, batch->spans.len);
    buffer_free(&head);
    buffer_free(&frame);
    if (error) attempt_failed(t);
}

static bool may_pass(int status) { return status == 429 || (status >= 502 && status <= 504); }

static void receive(struct tracer *t) {
    for (;;) {
        ssize_t n = recv(t->stream.fd, t->scratch, t->scratch_size, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        ssize_t used = n > 0 ? http_reader_feed(&t->reader, t->scratch, (size_t)n) : HTTP_BAD;
        if (used == HTTP_MORE && (size_t)n == t->scratch_size) continue;
        if (used == HTTP_MORE) return;
        if (used == HTTP_BAD || t->state != EXPORT_SENT || may_pass(t->reader.head.status)) {
            if (t->state == EXPORT_SENT) attempt_failed(t);
            else stream_close(&t->stream);
            return;
        }
        t->used = !t->reader.head.close;
        if (!t->used) stream_close(&t->stream);
        finish_batch(t, t->reader.head.status >= 200 && t->reader.head.status < 300);
        if (t->waiters) timer_set(t->timers, &t->patience, now_ns() + PATIENCE_NS);
        export_next(t);
        return;
    }
}

static void stream_ready(struct stream *stream, uint32_t events) {
    struct tracer *t = (struct tracer *)((char *)stream - offsetof(struct tracer, stream));
    if (t->state == EXPORT_CONNECTING && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
        if (stream_connected(stream) != 0) {
            attempt_failed(t);
            return;
        }
        send_batch(t);
    } else if (events & EPOLLOUT && stream_flush(stream) != 0 && t->state == EXPORT_SENT) {
        attempt_failed(t);
        return;
    }
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP) && stream->fd >= 0) receive(t);
}

/* Send the first batch if there is a reason to; idle otherwise. */
static void export_next(struct tracer *t) {
    struct sockaddr_storage address;
    socklen_t len;
    tell_waiters(t);
    if (t->state != EXPORT_IDLE || !t->first) return;
    if (taken(t) >= t->due && t->waiting < t->config->span_queue / 2) return;
    timer_set(t->timers, &t->timer, now_ns() + ATTEMPT_NS);
    if (t->stream.fd >= 0) {
        send_batch(t);
        return;
    }
    t->state = EXPORT_CONNECTING;
    bool open = address_get(t->address, &address, &len) &&
                stream_connect(&t->stream, t->loop, (struct sockaddr *)&address, len, stream_ready) == 0;
    if (!open) attempt_failed(t);
}
