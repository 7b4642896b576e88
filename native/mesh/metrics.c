/* What a service counts, as Prometheus reads it (text format 0.0.4). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mesh/service.h"

static const double BUCKETS_S[DURATION_BUCKETS] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                   0.1,    0.25,  0.5,    1.0,   2.5,  5.0,   10.0};
static const char *const BUCKET_NAMES[DURATION_BUCKETS] = {"0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05",
                                                           "0.1",    "0.25",  "0.5",    "1.0",   "2.5",  "5.0",   "10.0"};

static struct outcome *outcome_of(struct route *route, int status) {
    struct outcome **link = &route->outcomes;
    while (*link && (*link)->status != status) link = &(*link)->next;
    if (!*link) {
        *link = must_alloc(1, sizeof **link);
        (*link)->status = status;
    }
    return *link;
}

void metrics_record(struct route *route, int status, uint64_t duration_ns) {
    struct outcome *outcome = outcome_of(route, status);
    double duration_s = (double)duration_ns / 1e9;
    uint32_t bucket = 0;
    while (bucket < DURATION_BUCKETS && duration_s > BUCKETS_S[bucket]) bucket++;
    outcome->counts[bucket]++;
    outcome->sum_s += duration_s;
}

static void put(struct buffer *to, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct buffer *to, const char *format, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    buffer_append(to, line, n < (int)sizeof line ? (size_t)n : sizeof line - 1);
}

static void put_family(struct buffer *to, const char *name, const char *type, const char *help) {
    put(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_single(struct buffer *to, const char *name, const char *type, const char *help, double value) {
    put_family(to, name, type, help);
    put(to, value == (double)(int64_t)value ? "%s %.1f\n" : "%s %.9g\n", name, value);
}

static void put_histogram(struct buffer *to, const char *label, const struct outcome *outcome) {
    static const char name[] = "http_server_request_duration_seconds";
    uint64_t count = 0;
    for (uint32_t i = 0; i < DURATION_BUCKETS; i++) {
        count += outcome->counts[i];
        put(to, "%s_bucket{endpoint=\"%s\",status=\"%d\",le=\"%s\"} %llu.0\n", name, label, outcome->status,
            BUCKET_NAMES[i], (unsigned long long)count);
    }
    count += outcome->counts[DURATION_BUCKETS];
    put(to, "%s_bucket{endpoint=\"%s\",status=\"%d\",le=\"+Inf\"} %llu.0\n", name, label, outcome->status,
        (unsigned long long)count);
    put(to, "%s_count{endpoint=\"%s\",status=\"%d\"} %llu.0\n", name, label, outcome->status, (unsigned long long)count);
    put(to, "%s_sum{endpoint=\"%s\",status=\"%d\"} %.9g\n", name, label, outcome->status, outcome->sum_s);
}

static void put_durations(struct buffer *to, const struct service *s) {
    put_family(to, "http_server_request_duration_seconds", "histogram",
               "Duration of requests served, by endpoint and status");
    for (uint32_t i = 0; i <= s->config->endpoint_count; i++) {
        const struct route *route = &s->routes[i];
        const char *label = route->endpoint ? route->endpoint->name : "unknown";
        for (const struct outcome *o = route->outcomes; o; o = o->next) put_histogram(to, label, o);
    }
}

static double resident_bytes(void) {
    unsigned long long all = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (!statm) return 0;
    if (fscanf(statm, "%llu %llu", &all, &resident) != 2) resident = 0;
    fclose(statm);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static double start_unix_s(const struct service *s) {
    uint64_t age_ns = now_ns() - s->started_ns;
    return (double)(clock_read_ns(CLOCK_REALTIME) - age_ns) / 1e9;
}

void metrics_write(struct service *s, struct buffer *to) {
    uint64_t cpu_ns = clock_read_ns(CLOCK_THREAD_CPUTIME_ID) + compute_cpu_ns(s->compute);
    put_durations(to, s);
    put_single(to, "http_server_active_requests", "gauge", "Requests in flight", s->in_flight);
    put_single(to, "http_server_queued_requests", "gauge", "Requests that wait for a worker", s->queued);
    put_single(to, "http_server_connections", "gauge", "Connections of clients", s->connection_count);
    put_single(to, "aefm_mesh_spans_exported_total", "counter", "Spans delivered", (double)s->tracer.exported);
    put_single(to, "aefm_mesh_spans_dropped_total", "counter", "Spans that found no room, or could not be delivered",
               (double)(s->tracer.dropped + s->tracer.failed));
    put_single(to, "aefm_mesh_spans_waiting", "gauge", "Spans that wait for their export", s->tracer.waiting);
    put_single(to, "aefm_mesh_state_bytes", "gauge", "State kept", (double)s->state_bytes);
    put_single(to, "aefm_mesh_service_cpu_seconds_total", "counter", "CPU time of the service's threads",
               (double)cpu_ns / 1e9);
    put_single(to, "process_cpu_seconds_total", "counter", "CPU time of the process",
               (double)clock_read_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e9);
    put_single(to, "process_resident_memory_bytes", "gauge", "Resident memory of the process", resident_bytes());
    put_single(to, "process_start_time_seconds", "gauge", "When the service started, in seconds since the epoch",
               start_unix_s(s));
}
