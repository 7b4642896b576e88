/* wrk2's text, so that its users and parsers feel at home. Latencies are those of successes. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "report.h"

#define TICKS_PER_HALF 5.0

static void format_with(char *text, size_t size, double value, const char *const *units, const double *steps, int n) {
    int unit = 0;
    while (unit < n - 1 && value >= steps[unit]) value /= steps[unit++];
    snprintf(text, size, "%.2f%s", value, units[unit]);
}

static const char *format_us(char *text, size_t size, double us) {
    static const char *const units[] = {"us", "ms", "s", "m", "h"};
    static const double steps[] = {1000, 1000, 60, 60};
    format_with(text, size, us, units, steps, 5);
    return text;
}

static const char *format_metric(char *text, size_t size, double value) {
    static const char *const units[] = {"", "k", "M", "G"};
    static const double steps[] = {1000, 1000, 1000};
    format_with(text, size, value, units, steps, 4);
    return text;
}

static const char *format_bytes(char *text, size_t size, double bytes) {
    static const char *const units[] = {"", "K", "M", "G", "T"};
    static const double steps[] = {1024, 1024, 1024, 1024};
    format_with(text, size, bytes, units, steps, 5);
    return text;
}

typedef const char *formatter(char *text, size_t size, double value);

/* Right-align the number so that units line up as wrk2 has them: two columns for the unit. */
static void put_column(FILE *to, const char *text, int width) {
    size_t len = strlen(text), unit = 0;
    while (unit < 2 && unit < len && !strchr("0123456789.", text[len - 1 - unit])) unit++;
    fprintf(to, "%*s%s", width + (int)unit, text, &"  "[unit]);
}

static void put_stats(FILE *to, const char *name, const struct histogram *h, formatter *format) {
    char text[32];
    double stdev = hist_stdev(h);
    fprintf(to, "    %-10s", name);
    put_column(to, format(text, sizeof text, hist_mean(h)), 6);
    put_column(to, format(text, sizeof text, stdev), 8);
    put_column(to, format(text, sizeof text, (double)h->max_us), 7);
    fprintf(to, "%8.2f%%\n", hist_share_within(h, stdev) * 100.0);
}

static void put_spectrum_line(FILE *to, const struct histogram *h, double percentile, uint64_t *shown) {
    uint64_t value = hist_percentile(h, percentile), below = 0;
    uint32_t last = hist_cell_of(value);
    for (uint32_t cell = 0; cell <= last; cell++) below += h->cells[cell];
    *shown = below;
    fprintf(to, "%12.3f %12.6f %12" PRIu64, (double)value / 1000.0, percentile / 100.0, below);
    if (percentile < 100.0) fprintf(to, " %12.2f\n", 1.0 / (1.0 - percentile / 100.0));
    else fprintf(to, " %12s\n", "inf");
}

/* HdrHistogram's classic spectrum: five ticks in each halving of the distance to 100 %. */
static void put_spectrum(FILE *to, const struct histogram *h) {
    uint64_t shown = 0;
    fprintf(to, "%12s %12s %12s %12s\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    for (double percentile = 0.0; h->count && shown < h->count && percentile < 100.0;) {
        put_spectrum_line(to, h, percentile, &shown);
        double halvings = floor(log2(100.0 / (100.0 - percentile))) + 1.0;
        percentile += 100.0 / (exp2(halvings) * TICKS_PER_HALF);
    }
    put_spectrum_line(to, h, 100.0, &shown);
    fprintf(to, "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", hist_mean(h) / 1000.0, hist_stdev(h) / 1000.0);
    fprintf(to, "#[Max     = %12.3f, Total count    = %12" PRIu64 "]\n", (double)h->max_us / 1000.0, h->count);
    fprintf(to, "#[Buckets = %12u, SubBuckets     = %12u]\n", HIST_BUCKETS, HIST_SUB_BUCKETS);
    fputs("----------------------------------------------------------\n", to);
}

static void put_distribution(FILE *to, const struct histogram *h, const char *title) {
    static const double percentiles[] = {50, 75, 90, 99, 99.9, 99.99, 99.999, 100};
    char text[32];
    fprintf(to, "  Latency Distribution (HdrHistogram - %s)\n", title);
    for (size_t i = 0; i < sizeof percentiles / sizeof *percentiles; i++) {
        fprintf(to, "%7.3f%%", percentiles[i]);
        put_column(to, format_us(text, sizeof text, (double)hist_percentile(h, percentiles[i])), 8);
        fputc('\n', to);
    }
    fputs("\n  Detailed Percentile spectrum:\n", to);
    put_spectrum(to, h);
}

static void put_failures(const struct report *r, FILE *to) {
    const struct tally *t = &r->total;
    uint64_t connect = tally_count(t, OUTCOME_CONNECT_ERROR), timeout = tally_count(t, OUTCOME_TIMEOUT);
    uint64_t read = tally_count(t, OUTCOME_READ_ERROR) + tally_count(t, OUTCOME_MALFORMED);
    uint64_t status = tally_count(t, OUTCOME_4XX) + tally_count(t, OUTCOME_5XX) + tally_count(t, OUTCOME_OTHER_STATUS);
    uint64_t unsent = tally_count(t, OUTCOME_UNSENT), unanswered = tally_count(t, OUTCOME_UNANSWERED);
    if (connect || read || timeout) {
        fprintf(to, "  Socket errors: connect %" PRIu64 ", read %" PRIu64 ", write 0, timeout %" PRIu64 "\n", connect,
                read, timeout);
    }
    if (status) fprintf(to, "  Non-2xx or 3xx responses: %" PRIu64 "\n", status);
    if (tally_count(t, OUTCOME_MISMATCH)) {
        fprintf(to, "  Responses that the script refused: %" PRIu64 "\n", tally_count(t, OUTCOME_MISMATCH));
    }
    if (unsent || unanswered) {
        fprintf(to, "  Not in the latencies: unsent %" PRIu64 ", unanswered %" PRIu64 " (of %" PRIu64 " offered)\n",
                unsent, unanswered, t->offered);
    }
}

static void put_ending(const struct report *r, FILE *to) {
    const struct precision_rule *asked = &r->options->precision;
    const struct abort_rule *rule = &r->options->abort_on;
    double seconds = (double)r->duration_ns / (double)NS_PER_S;
    if (r->ending == ENDED_BY_ABORT) {
        fprintf(to, "  Aborted after %.2fs: error_rate %.1f %% over %.3gs, more than %.4g %%\n", seconds,
                r->abort_error_rate * 100, (double)rule->over_ns / (double)NS_PER_S, rule->share * 100);
    }
    if (asked->percentile == 0) return;
    struct estimate e = report_precision(r);
    double width = estimate_width(&e) * 100;
    bool reached = r->ending == ENDED_BY_PRECISION;
    if (reached) fprintf(to, "  Ended by precision after %.2fs: ", seconds);
    else fputs("  Not ended by precision: ", to);
    if (isnan(width)) fprintf(to, "p%g is not bounded, asked %.4g %%\n", asked->percentile, asked->share * 100);
    else fprintf(to, "p%g to %.2f %% (95 %% interval), asked %.4g %%\n", asked->percentile, width, asked->share * 100);
}

static void put_connections(const struct report *r, FILE *to) {
    if (r->options->max_connections == r->options->connections) return;
    fprintf(to, "  Connections: %" PRIu64 " opened beyond the %u asked for, at most %u\n", r->grown, r->options->connections,
            r->options->max_connections);
}

void report_text(const struct report *r, FILE *to) {
    char text[32];
    const struct tally *t = &r->total;
    struct histogram *empty = must_alloc(1, sizeof *empty);
    const struct histogram *latency = t->latency[OUTCOME_SUCCESS] ? t->latency[OUTCOME_SUCCESS] : empty;
    double seconds = (double)r->duration_ns / (double)NS_PER_S;
    double per_second = seconds > 0 ? 1.0 / seconds : 0.0;
    uint64_t achieved = tally_achieved(t);
    fprintf(to, "  Thread Stats%6s%11s%8s%12s\n", "Avg", "Stdev", "Max", "+/- Stdev");
    put_stats(to, "Latency", latency, format_us);
    put_stats(to, "Req/Sec", r->rates, format_metric);
    if (r->options->print_latency) put_distribution(to, latency, "Recorded Latency");
    if (r->options->print_uncorrected) {
        fputc('\n', to);
        put_distribution(to, t->uncorrected ? t->uncorrected : empty,
                         "Uncorrected Latency (measured without taking delayed starts into account)");
    }
    fprintf(to, "  %" PRIu64 " requests in %s, ", achieved, format_us(text, sizeof text, seconds * 1e6));
    fprintf(to, "%sB read\n", format_bytes(text, sizeof text, (double)t->bytes_read));
    put_failures(r, to);
    put_ending(r, to);
    put_connections(r, to);
    fprintf(to, "Requests/sec: %9.2f\n", (double)achieved * per_second);
    fprintf(to, "Transfer/sec: %10sB\n", format_bytes(text, sizeof text, (double)t->bytes_read * per_second));
    free(empty);
}
