/* What the mesh itself answers: /metrics, /-/ready, /-/inflight, /-/flush and /-/faults. Never counted, never traced. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json.h"
#include "mesh/json_reader.h"
#include "mesh/service.h"

#define JSON_TYPE "application/json; charset=utf-8"

bool control_is_path(struct http_text path) {
    return http_text_equals(path, "/metrics") || (path.len >= 3 && memcmp(path.data, "/-/", 3) == 0);
}

/* JSON that is being written: memory and length are known once it is closed. */
struct answer {
    char *text;
    size_t len;
    struct json json;
};

static struct json *answer_open(struct answer *a) {
    a->json = (struct json){.to = open_memstream(&a->text, &a->len)};
    if (!a->json.to) abort();
    json_open(&a->json, NULL, '{');
    return &a->json;
}

static void answer_send(struct answer *a, struct exchange *e, int status) {
    json_close(&a->json, '}');
    fclose(a->json.to);
    connection_answer(e, status, JSON_TYPE, a->text, a->len);
    free(a->text);
}

void control_refuse(struct exchange *e, int status, const char *what) {
    struct answer a;
    struct json *j = answer_open(&a);
    json_text(j, "service", e->service->config->name);
    json_text(j, "error", what);
    answer_send(&a, e, status);
}

static void answer_metrics(struct exchange *e) {
    struct buffer text = {0};
    metrics_write(e->service, &text);
    connection_answer(e, 200, "text/plain; version=0.0.4; charset=utf-8", text.data, text.len);
    buffer_free(&text);
}

static void answer_ready(struct exchange *e) {
    struct answer a;
    char what[FAILURE_MAX];
    const char *unknown = peers_unknown(e->service);
    if (unknown) {
        snprintf(what, sizeof what, "the address of %s is not known yet", unknown);
        control_refuse(e, STATUS_UNAVAILABLE, what);
        return;
    }
    struct json *j = answer_open(&a);
    json_text(j, "service", e->service->config->name);
    json_int(j, "pid", getpid());
    answer_send(&a, e, 200);
}

static void answer_in_flight(struct exchange *e) {
    struct answer a;
    json_uint(answer_open(&a), "in_flight", e->service->in_flight);
    answer_send(&a, e, 200);
}

/* ---- flush */

struct flush {
    struct flush_waiter waiter;
    struct exchange *exchange;
};

static void flushed(struct flush_waiter *waiter, struct flush_result result) {
    struct flush *flush = (struct flush *)waiter;
    struct answer a;
    struct json *j = answer_open(&a);
    json_uint(j, "spans_exported", result.exported);
    json_uint(j, "spans_dropped", result.dropped);
    json_bool(j, "complete", result.complete);
    answer_send(&a, flush->exchange, result.complete ? 200 : STATUS_UNAVAILABLE);
    free(flush);
}

static void answer_flush(struct exchange *e) {
    if (!http_text_equals(e->method, "POST")) {
        control_refuse(e, 405, "flush with POST");
        return;
    }
    struct flush *flush = must_alloc(1, sizeof *flush);
    flush->waiter.done = flushed;
    flush->exchange = e;
    tracer_flush(&e->service->tracer, &flush->waiter);
}

/* ---- faults */

void faults_end(void *owner) {
    struct service *s = owner;
    s->faults.delay_ms = s->faults.fail_rate = 0;
    s->faults.stall = false;
    exchange_admit(s);
}

/* Take a number of 0 to `most`; false where there is something else. */
static bool take_share(const struct json_value *from, const char *name, double most, double *to) {
    const struct json_value *value = json_member(from, name);
    if (!value) return true;
    if (value->kind != JSON_NUMBER || !(value->number >= 0 && value->number <= most)) return false;
    *to = value->number;
    return true;
}

/* Return NULL, or what was expected. */
static const char *read_faults(const struct json_value *from, struct faults *to, double *ttl_s) {
    double status = STATUS_UNAVAILABLE;
    const struct json_value *stall = json_member(from, "stall");
    if (from->kind != JSON_OBJECT) return "expected an object";
    if (!take_share(from, "delay_ms", 86400e3, &to->delay_ms)) return "delay_ms: expected a number of 0 or more";
    if (!take_share(from, "fail_rate", 1, &to->fail_rate)) return "fail_rate: expected a number of 0 to 1";
    if (!take_share(from, "fail_status", 599, &status) || status < 400) return "fail_status: expected 400 to 599";
    if (!take_share(from, "ttl_s", 1e9, ttl_s)) return "ttl_s: expected a number of 0 or more";
    if (stall && stall->kind != JSON_TRUE && stall->kind != JSON_FALSE) return "stall: expected true or false";
    to->fail_status = (int)status;
    to->stall = stall && stall->kind == JSON_TRUE;
    for (const struct json_value *member = from->first; member; member = member->next) {
        if (!member->looked) return "unknown key; known here: delay_ms, fail_rate, fail_status, stall, ttl_s";
    }
    return NULL;
}

static void tell_faults(struct exchange *e) {
    const struct faults *faults = &e->service->faults;
    struct answer a;
    struct json *j = answer_open(&a);
    json_open(j, "faults", '{');
    if (faults->delay_ms > 0) json_real(j, "delay_ms", faults->delay_ms, 6);
    if (faults->fail_rate > 0) json_real(j, "fail_rate", faults->fail_rate, 6);
    if (faults->fail_rate > 0) json_int(j, "fail_status", faults->fail_status);
    if (faults->stall) json_bool(j, "stall", true);
    if (faults->end.place) json_real(j, "ttl_s", (double)(faults->end.when_ns - now_ns()) / 1e9, 3);
    json_close(j, '}');
    json_uint(j, "requests", faults->requests);
    json_uint(j, "disturbed", faults->disturbed);
    json_real(j, "delayed_ms", (double)faults->delayed_ns / 1e6, 6);
    answer_send(&a, e, 200);
}

static void set_faults(struct exchange *e, const struct buffer *content) {
    struct service *s = e->service;
    struct json_document document;
    struct faults faults = {.stall = false};
    double ttl_s = 0;
    const char *wrong = json_read(content ? content->data : "", content ? content->len : 0, &document);
    if (!wrong) wrong = read_faults(document.root, &faults, &ttl_s);
    json_document_free(&document);
    if (wrong) {
        control_refuse(e, 400, wrong);
        return;
    }
    timer_unset(&s->timers, &s->faults.end);
    s->faults.delay_ms = faults.delay_ms;
    s->faults.fail_rate = faults.fail_rate;
    s->faults.fail_status = faults.fail_status;
    s->faults.stall = faults.stall;
    if (ttl_s > 0) timer_set(&s->timers, &s->faults.end, now_ns() + (uint64_t)(ttl_s * 1e9));
    tell_faults(e);
    exchange_admit(s);
}

static void answer_faults(struct exchange *e, const struct buffer *content) {
    if (!e->service->config->faults) control_refuse(e, 403, "faults are not enabled for this service");
    else if (http_text_equals(e->method, "POST")) set_faults(e, content);
    else if (http_text_equals(e->method, "GET")) tell_faults(e);
    else control_refuse(e, 405, "GET or POST");
}

void control_serve(struct exchange *e, const struct buffer *content) {
    char what[FAILURE_MAX];
    if (http_text_equals(e->path, "/metrics")) {
        answer_metrics(e);
    } else if (http_text_equals(e->path, "/-/ready")) {
        answer_ready(e);
    } else if (http_text_equals(e->path, "/-/inflight")) {
        answer_in_flight(e);
    } else if (http_text_equals(e->path, "/-/flush")) {
        answer_flush(e);
    } else if (http_text_equals(e->path, "/-/faults")) {
        answer_faults(e, content);
    } else {
        snprintf(what, sizeof what, "no %.*s", (int)(e->path.len > 200 ? 200 : e->path.len), e->path.data);
        control_refuse(e, 404, what);
    }
}
