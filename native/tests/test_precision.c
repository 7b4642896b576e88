/* When a percentile is known well enough, and when looks are. */
#include "check.h"
#include "outcome.h"
#include "precision.h"
#include "random.h"

#define MS 1000000ull
#define S (1000 * MS)
#define COUNT 8000u

static struct record records[COUNT];

/* Exponential latencies of mean 20 ms, a request each ms; from the second half on they are `slower` times as long. */
static void make(double slower, uint64_t seed) {
    for (uint64_t i = 0; i < COUNT; i++) {
        double latency = -log(random_unit(&seed)) * 20e6 * (i < COUNT / 2 ? 1 : slower);
        records[i] = record_make(i * MS, 0, (uint64_t)latency, OUTCOME_SUCCESS, false, 0);
    }
}

static bool reached(double percentile, double share) {
    struct precision_rule rule = {percentile, share};
    return precision_reached(&rule, records, COUNT, COUNT * MS);
}

static void rules_are_a_percentile_and_a_width(void) {
    static const struct { const char *text; double percentile, share; } table[] = {
        {"p99:5%", 99, 0.05}, {"p50:0.1", 50, 0.1}, {"p99.9:12.5%", 99.9, 0.125}};
    static const char *const wrong[] = {"", "p", "99:5%", "p99", "p99:", "p:5%", "p0:5%", "p100:5%", "px:5%", "p99:0%",
                                        "p99:100%", "p99:5%x", "p99:-5%", "p00000000000000000000000000000000000099:5%"};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct precision_rule rule;
        CHECK(precision_parse(table[i].text, &rule) == NULL);
        CHECK_NEAR(table[i].percentile, rule.percentile, 1e-9);
        CHECK_NEAR(table[i].share, rule.share, 1e-9);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct precision_rule rule;
        CHECK(precision_parse(wrong[i], &rule) != NULL);
    }
}

static void looks_are_at_doubling_times(void) {
    CHECK_INT(1 * S, precision_next_look(0));
    CHECK_INT(1 * S, precision_next_look(1 * S - 1));
    CHECK_INT(2 * S, precision_next_look(1 * S));
    CHECK_INT(4 * S, precision_next_look(2 * S));
    CHECK_INT(64 * S, precision_next_look(63 * S));
}

/* Of n exponential latencies the interval of the median is 2 * 1.96 / sqrt(n) / ln 2 = 5.66 / sqrt(n) wide. */
static void an_interval_is_narrow_or_it_is_not(void) {
    make(1, 5);
    CHECK(reached(50, 0.075)); /* 0.063 expected */
    CHECK(!reached(50, 0.05));
    CHECK(!reached(99.99, 0.9)); /* unbounded */
}

static void a_window_with_a_trend_knows_nothing(void) {
    make(3, 5);
    CHECK(!reached(50, 0.5));
}

static void a_window_with_a_queue_at_its_end_knows_nothing(void) {
    make(1, 5);
    for (uint64_t i = COUNT - COUNT / 50; i < COUNT; i++) {
        records[i].waited = true;
        records[i].late_ns = S;
    }
    CHECK(!reached(50, 0.9));
}

int main(void) {
    rules_are_a_percentile_and_a_width();
    looks_are_at_doubling_times();
    an_interval_is_narrow_or_it_is_not();
    a_window_with_a_trend_knows_nothing();
    a_window_with_a_queue_at_its_end_knows_nothing();
    return check_result();
}
