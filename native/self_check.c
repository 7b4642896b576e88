/* Whether a run's figures may be trusted: what this machine or the generator did wrong, with its limits. */
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "clock.h"
#include "report.h"

#define LAG_LIMIT_MS 1.0
#define LAG_SHARE 0.1
#define CPU_LIMIT 0.85
#define CLOCK_STEP_MS 10.0
#define STEAL_LIMIT 0.10
#define STEAL_WARNING 0.03

__attribute__((format(printf, 8, 9))) static void add(struct self_check *s, const char *name, bool ok, bool warning,
                                                       double value, double limit, const char *unit,
                                                       const char *message, ...) {
    struct check *c = &s->checks[s->count++];
    *c = (struct check){.name = name, .unit = unit, .ok = ok, .warning = warning, .value = value, .limit = limit};
    va_list arguments;
    va_start(arguments, message);
    vsnprintf(c->message, sizeof c->message, message, arguments);
    va_end(arguments);
}

static void check_lag(struct self_check *s, const struct report *r) {
    const struct histogram *lags = r->total.pacer_lag, *latency = r->total.latency[OUTCOME_SUCCESS];
    if (!lags || !lags->count) return;
    double lag = (double)hist_percentile(lags, 99) / 1e3;
    double limit = fmax(LAG_LIMIT_MS, latency ? LAG_SHARE * (double)hist_percentile(latency, 50) / 1e3 : 0);
    add(s, "pacer lag p99", lag <= limit, false, lag, limit, "ms",
        "pacer lag p99 %.2f ms, limit %.2f ms: requests left late although a connection was free", lag, limit);
}

static void check_cpu(struct self_check *s, const struct report *r) {
    double wall = (double)(r->at_end.mono_ns - r->at_start.mono_ns), busiest = 0;
    if (r->options->busy_poll_ns || wall <= 0) return;
    for (uint32_t i = 0; i < r->options->threads; i++) {
        busiest = fmax(busiest, (double)(r->at_end.cpu_ns[i] - r->at_start.cpu_ns[i]) / wall);
    }
    add(s, "generator cpu", busiest <= CPU_LIMIT, false, busiest, CPU_LIMIT, "share",
        "a generator thread used %.0f %% of its core, limit %.0f %%", busiest * 100, CPU_LIMIT * 100);
}

static void check_connections(struct self_check *s, const struct report *r) {
    uint32_t asked = r->options->connections;
    bool refused = tally_count(&r->total, OUTCOME_CONNECT_ERROR) > 0;
    add(s, "connections", r->reached >= asked || refused, false, (double)r->reached, asked, "count",
        "%lu of %u connections were open", (unsigned long)r->reached, asked);
    add(s, "local open failures", r->open_failures == 0, false, (double)r->open_failures, 0, "count",
        "%lu connections could not be opened on this machine's side (files or ports exhausted)",
        (unsigned long)r->open_failures);
}

static void check_machine(struct self_check *s, const struct report *r) {
    double step = fabs((double)(r->at_end.wall_offset_ns - r->at_start.wall_offset_ns)) / (double)NS_PER_MS;
    double ticks = (double)(r->at_end.all_ticks - r->at_start.all_ticks);
    add(s, "clock step", step <= CLOCK_STEP_MS, false, step, CLOCK_STEP_MS, "ms",
        "the wall clock stepped by %.1f ms in the window, limit %.0f ms", step, CLOCK_STEP_MS);
    if (!r->at_start.has_steal || !r->at_end.has_steal || ticks <= 0) return;
    double steal = (double)(r->at_end.steal_ticks - r->at_start.steal_ticks) / ticks;
    bool warning = steal <= STEAL_LIMIT;
    double limit = warning ? STEAL_WARNING : STEAL_LIMIT;
    add(s, "steal", steal <= limit, warning, steal, limit, "share",
        "the host stole %.1f %% of this machine's CPU time, limit %.0f %%", steal * 100, limit * 100);
}

static void check_arrivals(struct self_check *s, const struct report *r) {
    const struct arrivals_test *t = &s->arrivals;
    if (isnan(t->value)) return;
    add(s, "arrivals", t->ok, true, t->value, t->limit, "",
        "requests did not leave as --dist %s has it: gaps of a coefficient of variation of %.3f, asked %.3f",
        distribution_name(r->options->distribution), t->cv, t->cv_asked);
}

static void check_trend(struct self_check *s) {
    const struct trend *t = &s->trend;
    if (!t->known) return;
    char advice[64] = "no steady state within its first half";
    if (t->settles) {
        snprintf(advice, sizeof advice, "the warm-up should have been %.2g s longer",
                 (double)t->warmup_missing_ns / (double)NS_PER_S);
    }
    add(s, "trend", t->stationary, true, t->delta, 0.33, "delta",
        "latency changed within the window (medians of its halves by %+.0f %%): %s", t->change * 100, advice);
}

void report_check_self(struct report *r) {
    struct self_check *s = &r->check;
    s->arrivals = arrivals_test(r->records, r->record_count, &r->options->schedule, r->options->distribution);
    /* A trend that was asked for is none. */
    if (schedule_is_constant(&r->options->schedule)) s->trend = trend_test(r->records, r->record_count, r->duration_ns);
    if (r->duration_ns) {
        check_lag(s, r);
        check_cpu(s, r);
        check_connections(s, r);
        check_machine(s, r);
        check_arrivals(s, r);
        check_trend(s);
    }
    s->ok = true;
    for (size_t i = 0; i < s->count; i++) s->ok = s->ok && (s->checks[i].ok || s->checks[i].warning);
}
