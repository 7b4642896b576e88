/* Percentiles as intervals: lower bounds may be longer, the statistical interval follows the effective size. */
#include <stdlib.h>

#include "check.h"
#include "outcome.h"
#include "random.h"
#include "sample.h"

#define MS 1000000ull

static struct record made(uint64_t i, uint64_t latency_ms, enum outcome outcome) {
    return record_make(i * MS, 0, latency_ms * MS, outcome, false, (uint32_t)(i % 2));
}

/* 100 requests of 1 to 100 ms, of which the slowest `bounds` are only known to be slower than
 * half of that. */
static struct sample hundred(uint64_t bounds) {
    struct record records[101];
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t ms = i % 2 ? 100 - i / 2 : i / 2 + 1; /* alternating: worth no less than their number */
        bool bound = ms > 100 - bounds;
        records[i] = made(i, bound ? ms / 2 : ms, bound ? OUTCOME_TIMEOUT : OUTCOME_SUCCESS);
    }
    records[100] = made(100, 5000, OUTCOME_5XX); /* other failures stay out */
    return sample_take(records, 101, SAMPLE_ALL_TAGS);
}

static void percentiles_are_order_statistics(void) {
    struct sample s = hundred(0);
    struct estimate e = sample_percentile(&s, 50), tail = sample_percentile(&s, 99);
    CHECK_INT(100, s.count);
    CHECK_INT(50000, e.value_us);
    CHECK_INT(50000, e.value_high_us);
    CHECK_NEAR(100, e.n_eff, 1e-9);
    CHECK_INT(40000, e.low_us);
    CHECK_INT(61000, e.high_us);
    CHECK_INT(99000, tail.value_us);
    CHECK_INT(97000, tail.low_us);
    CHECK_INT(SAMPLE_NONE, tail.high_us); /* 100 requests bound p99 by nothing */
    CHECK_NEAR(0.42, estimate_width(&e), 1e-9);
    CHECK(isnan(estimate_width(&tail)));
    sample_free(&s);
}

static void lower_bounds_make_a_percentile_an_interval(void) {
    struct sample s = hundred(10);
    struct estimate median = sample_percentile(&s, 50), tail = sample_percentile(&s, 95);
    CHECK_INT(10, s.lower_bounds);
    CHECK_INT(47000, median.value_us); /* if the bounds' 45 to 50 ms are all there was to them */
    CHECK_INT(50000, median.value_high_us);
    CHECK(median.low_us < 47000 && median.high_us == 61000);
    CHECK_INT(85000, tail.value_us);
    CHECK_INT(SAMPLE_NONE, tail.value_high_us);
    CHECK_INT(SAMPLE_NONE, tail.high_us);
    sample_free(&s);
}

static void limits_count_what_is_above_and_what_may_be(void) {
    struct sample s = hundred(10);
    static const struct { uint64_t limit_us; size_t above, undecided; } table[] = {
        {0, 100, 0}, {90000, 0, 10}, {80000, 10, 10}, {47000, 43 + 5, 5}, {1000000, 0, 10}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct exceedance e = sample_limit(&s, table[i].limit_us);
        CHECK_INT(table[i].above, e.above);
        CHECK_INT(table[i].undecided, e.undecided);
        CHECK(e.n_eff >= 1 && e.n_eff <= 100);
    }
    sample_free(&s);
}

static void tags_are_samples_of_their_own(void) {
    struct record records[10];
    for (uint64_t i = 0; i < 10; i++) records[i] = made(i, i, OUTCOME_SUCCESS);
    struct sample odd = sample_take(records, 10, 1), none = sample_take(records, 10, 7);
    CHECK_INT(5, odd.count);
    CHECK_INT(1000, odd.ascending[0]);
    struct estimate e = sample_percentile(&none, 50);
    CHECK_INT(SAMPLE_NONE, e.value_us);
    CHECK_NEAR(0, sample_limit(&none, 5).n_eff, 0);
    sample_free(&odd);
    sample_free(&none);
}

/* Half of these samples are chains of ten equal values: their intervals must be wider, and still hold the median. */
static void intervals_hold_the_truth_in_spite_of_correlation(void) {
    uint64_t random = 17;
    int covered = 0, runs = 400;
    struct record records[2000];
    for (int run = 0; run < runs; run++) {
        double latency = 0;
        for (uint64_t i = 0; i < 2000; i++) {
            if (run % 2 == 0 || i % 10 == 0) latency = -log(random_unit(&random)) * 20e6;
            records[i] = record_make(i * MS, 0, (uint64_t)latency, OUTCOME_SUCCESS, false, 0);
        }
        struct sample s = sample_take(records, 2000, SAMPLE_ALL_TAGS);
        struct estimate e = sample_percentile(&s, 50);
        covered += e.low_us <= 13863 && 13863 <= e.high_us;
        sample_free(&s);
    }
    CHECK(covered >= 0.92 * runs && covered <= 0.99 * runs);
}

int main(void) {
    percentiles_are_order_statistics();
    lower_bounds_make_a_percentile_an_interval();
    limits_count_what_is_above_and_what_may_be();
    tags_are_samples_of_their_own();
    intervals_hold_the_truth_in_spite_of_correlation();
    return check_result();
}
