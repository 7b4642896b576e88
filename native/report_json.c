#include <math.h>
#include <stdlib.h>

#include "clock.h"
#include "json.h"
#include "report.h"
#include "sample.h"

#define QUARTERS 4

static void put_histogram(struct json *j, const char *name, const struct histogram *h) {
    static const struct { const char *name; double percentile; } shown[] = {
        {"p50_us", 50}, {"p90_us", 90}, {"p95_us", 95}, {"p99_us", 99}, {"p999_us", 99.9}};
    char *encoded = hist_encode(h);
    json_open(j, name, '{');
    json_uint(j, "count", h->count);
    json_uint(j, "min_us", h->count ? h->min_us : 0);
    json_real(j, "mean_us", hist_mean(h), 3);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        json_uint(j, shown[i].name, hist_percentile(h, shown[i].percentile));
    }
    json_uint(j, "max_us", h->max_us);
    json_text(j, "hdr", encoded ? encoded : "");
    free(encoded);
}

static void put_outcomes(struct json *j, const struct tally *t, const struct histogram *empty) {
    json_uint(j, "sent", tally_sent(t));
    json_uint(j, "attempted", tally_sent(t) + tally_count(t, OUTCOME_CONNECT_ERROR));
    json_uint(j, "achieved", tally_achieved(t));
    json_uint(j, "successes", tally_count(t, OUTCOME_SUCCESS));
    json_open(j, "outcomes", '{');
    for (int o = 0; o < OUTCOMES; o++) {
        uint64_t count = tally_count(t, (enum outcome)o);
        if (count || o == OUTCOME_SUCCESS) json_uint(j, outcome_name((enum outcome)o), count);
    }
    json_close(j, '}');
    json_open(j, "latency", '{');
    for (int o = 0; o < OUTCOMES; o++) {
        const struct histogram *h = t->latency[o];
        if (!h && o != OUTCOME_SUCCESS) continue;
        put_histogram(j, outcome_name((enum outcome)o), h ? h : empty);
        json_close(j, '}');
    }
    json_close(j, '}');
}

static void put_tags(struct json *j, const struct report *r, const struct histogram *empty) {
    json_open(j, "tags", '{');
    for (uint32_t i = 0; i < r->tagged.count; i++) {
        const struct tally *t = &r->tagged.tallies[i];
        if (i == TAG_NONE && tally_sum(t) == 0) continue;
        json_open(j, tag_name(&r->tags, i), '{');
        json_uint(j, "offered", tally_sum(t));
        put_outcomes(j, t, empty);
        json_uint(j, "bytes_read", t->bytes_read);
        json_uint(j, "bytes_written", t->bytes_written);
        put_percentiles(j, r, i);
        json_close(j, '}');
    }
    json_close(j, '}');
}

/* The mean number that waited. */
static double backlog_of_quarter(const struct report *r, unsigned quarter) {
    uint64_t from = r->window_start_ns + r->duration_ns * quarter / QUARTERS;
    return queue_track_mean(&r->waiting, from, r->window_start_ns + r->duration_ns * (quarter + 1) / QUARTERS);
}

bool report_overloaded(const struct report *r) {
    double waiting = (double)tally_count(&r->total, OUTCOME_UNSENT), most = 0.01 * (double)r->total.offered;
    return waiting > fmax(1, most) && backlog_of_quarter(r, 3) > backlog_of_quarter(r, 1);
}

static void put_lateness(struct json *j, const struct report *r, const struct histogram *empty) {
    const struct tally *t = &r->total;
    put_histogram(j, "pacer_lag", t->pacer_lag ? t->pacer_lag : empty);
    json_close(j, '}');
    put_histogram(j, "backlog", t->backlog ? t->backlog : empty);
    json_uint(j, "max", t->backlog_max);
    json_uint(j, "at_end", tally_count(t, OUTCOME_UNSENT));
    json_open(j, "quarters", '[');
    for (unsigned q = 0; q < QUARTERS; q++) json_real(j, NULL, backlog_of_quarter(r, q), 3);
    json_close(j, ']');
    json_close(j, '}');
    json_bool(j, "overloaded", report_overloaded(r));
}

static void put_machine(struct json *j, const struct report *r) {
    const struct observation *a = &r->at_start, *b = &r->at_end;
    double wall = (double)(b->mono_ns - a->mono_ns);
    uint32_t threads = r->options->threads;
    json_open(j, "connections", '{');
    json_uint(j, "asked", r->options->connections);
    json_uint(j, "max", r->options->max_connections);
    json_uint(j, "opened", r->grown);
    json_uint(j, "reached", r->reached);
    json_uint(j, "at_window_start", r->reached_at_start);
    json_uint(j, "open_failures", r->open_failures);
    json_close(j, '}');
    json_open(j, "threads_cpu", '[');
    for (uint32_t i = 0; i < threads; i++) json_real(j, NULL, wall > 0 ? (double)(b->cpu_ns[i] - a->cpu_ns[i]) / wall : 0, 4);
    json_close(j, ']');
    json_open(j, "threads_run_delay_ns", '[');
    for (uint32_t i = 0; i < threads; i++) {
        int64_t first = a->run_delay_ns[i], last = b->run_delay_ns[i];
        if (first < 0 || last < first) json_null(j, NULL);
        else json_int(j, NULL, last - first);
    }
    json_close(j, ']');
    json_int(j, "clock_step_ns", b->wall_offset_ns - a->wall_offset_ns);
    uint64_t ticks = b->all_ticks - a->all_ticks;
    if (a->has_steal && b->has_steal && ticks) {
        json_real(j, "steal_share", (double)(b->steal_ticks - a->steal_ticks) / (double)ticks, 4);
    } else {
        json_null(j, "steal_share");
    }
}

int64_t report_start_wall_ns(const struct report *r) { return (int64_t)r->window_start_ns + r->at_start.wall_offset_ns; }

const char *report_ending(const struct report *r) {
    static const char *const names[] = {"duration", "precision", "abort"};
    return r->interrupted ? "interrupt" : names[r->ending];
}

static void put_run(struct json *j, const struct report *r) {
    json_uint(j, "schema", REPORT_SCHEMA);
    json_text(j, "engine", "aefm-wrk");
    json_text(j, "version", AEFM_VERSION);
    json_open(j, "command", '[');
    for (int i = 0; i < r->argc; i++) json_text(j, NULL, r->argv[i]);
    json_close(j, ']');
    json_text(j, "url", r->options->url_text);
    json_open(j, "targets", '[');
    for (size_t i = 0; i < r->targets->count; i++) {
        char text[NET_TEXT_MAX];
        if (!net_address_text(&r->targets->at[i], text, sizeof text)) json_text(j, NULL, text);
    }
    json_close(j, ']');
    json_uint(j, "seed", r->seed);
    json_bool(j, "interrupted", r->interrupted);
    json_text(j, "ended_by", report_ending(r));
    json_open(j, "window", '{');
    json_int(j, "start_wall_ns", report_start_wall_ns(r));
    json_uint(j, "start_mono_ns", r->window_start_ns);
    json_uint(j, "duration_ns", r->duration_ns);
    json_close(j, '}');
    put_precision(j, r);
    put_abort(j, r);
    json_uint(j, "warmup_ns", r->options->warmup_ns);
    json_uint(j, "drain_ns", r->drain_ns);
    json_uint(j, "timeout_ns", r->options->timeout_ns);
    json_real(j, "rate_rps", r->options->rate_rps, 6);
    json_uint(j, "threads", r->options->threads);
}

bool report_adds_up(const struct report *r) { return r->total.offered == tally_sum(&r->total); }

void report_json(const struct report *r, FILE *to) {
    struct json json = {.to = to}, *j = &json;
    struct histogram *empty = must_alloc(1, sizeof *empty);
    json_open(j, NULL, '{');
    put_run(j, r);
    json_uint(j, "offered", r->total.offered);
    put_outcomes(j, &r->total, empty);
    put_tags(j, r, empty);
    put_lateness(j, r, empty);
    put_machine(j, r);
    json_uint(j, "bytes_read", r->total.bytes_read);
    json_uint(j, "bytes_written", r->total.bytes_written);
    put_percentiles(j, r, SAMPLE_ALL_TAGS);
    put_self_tests(j, r);
    put_series(j, r);
    json_close(j, '}');
    fputc('\n', to);
    free(empty);
}
