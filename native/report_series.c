/* The time series as JSON: a row for each second, of the requests that were due in it. */
#include <stdlib.h>

#include "buffer.h"
#include "clock.h"
#include "json.h"
#include "report.h"

struct row {
    uint64_t offered, outcomes[OUTCOMES];
    struct histogram latency, lag;
};

static void add(struct row *row, const struct record *r) {
    row->offered++;
    row->outcomes[r->outcome]++;
    if (r->outcome == OUTCOME_SUCCESS) hist_record(&row->latency, record_latency_us(r));
    if (!r->waited && r->outcome < OUTCOME_CONNECT_ERROR) hist_record(&row->lag, ns_to_us(r->late_ns));
}

static void put_worst(struct json *j, const char *p99, const char *max, const struct histogram *h) {
    if (h->count) {
        json_uint(j, p99, hist_percentile(h, 99));
        json_uint(j, max, h->max_us);
    } else {
        json_null(j, p99);
        json_null(j, max);
    }
}

static void put_row(struct json *j, const struct report *r, const struct row *row, size_t second) {
    uint64_t from = r->window_start_ns + second * NS_PER_S, end = r->window_start_ns + r->duration_ns;
    json_open(j, NULL, '{');
    json_uint(j, "offered", row->offered);
    json_uint(j, "sent", row->offered - row->outcomes[OUTCOME_CONNECT_ERROR] - row->outcomes[OUTCOME_UNSENT]);
    json_open(j, "outcomes", '{');
    for (int o = 0; o < OUTCOMES; o++) {
        if (row->outcomes[o]) json_uint(j, outcome_name((enum outcome)o), row->outcomes[o]);
    }
    json_close(j, '}');
    if (row->latency.count) json_uint(j, "p50_us", hist_percentile(&row->latency, 50));
    else json_null(j, "p50_us");
    put_worst(j, "p99_us", "max_us", &row->latency);
    put_worst(j, "lag_p99_us", "lag_max_us", &row->lag);
    json_uint(j, "completed", second < r->seconds ? r->completed[second] : 0);
    json_real(j, "backlog", queue_track_mean(&r->waiting, from, from + NS_PER_S < end ? from + NS_PER_S : end), 3);
    json_close(j, '}');
}

void put_series(struct json *j, const struct report *r) {
    struct row *row = must_alloc(1, sizeof *row);
    size_t seconds = (size_t)((r->duration_ns + NS_PER_S - 1) / NS_PER_S), i = 0;
    json_open(j, "series", '{');
    json_open(j, "seconds", '[');
    for (size_t second = 0; second < seconds && (i < r->record_count || !r->records_full); second++) {
        *row = (struct row){.latency.min_us = UINT64_MAX, .lag.min_us = UINT64_MAX};
        while (i < r->record_count && r->records[i].due_ns < (second + 1) * NS_PER_S) add(row, &r->records[i++]);
        put_row(j, r, row, second);
    }
    json_close(j, ']');
    json_close(j, '}');
    free(row);
}
