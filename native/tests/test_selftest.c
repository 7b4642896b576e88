/* Arrivals that are not those asked for are seen, and so is a window that began too early. */
#include <stdlib.h>

#include "check.h"
#include "outcome.h"
#include "random.h"
#include "selftest.h"

#define S 1000000000ull
#define COUNT 4000 /* over 4 s */

static struct record records[COUNT];

/* Due as the pacer has it; sent `late` ns after that, on every `every`th. */
static void arrive(enum distribution distribution, const struct schedule *s, uint64_t late, uint64_t every) {
    struct pacer p = pacer_make(s, distribution, 7, 0, 0, 1);
    for (uint64_t i = 0; i < COUNT; i++) {
        records[i] = record_make(pacer_next(&p), i % every ? 0 : late, S / 1000, OUTCOME_SUCCESS, false, 0);
    }
}

static void punctual_arrivals_pass(void) {
    for (int d = 0; d < DISTRIBUTIONS; d++) {
        struct schedule s;
        CHECK(!schedule_parse("500..1500:4s", &s));
        arrive((enum distribution)d, &s, 0, 1);
        struct arrivals_test t = arrivals_test(records, COUNT, &s, (enum distribution)d);
        CHECK(t.ok);
        CHECK_INT(COUNT - 1, t.gaps);
        if (d == DISTRIBUTION_EXP) CHECK(t.distance < 0.002 && t.anderson_darling < 5);
        if (d == DISTRIBUTION_FIXED) CHECK_NEAR(0, t.cv, 0.01);
    }
}

static void bursts_are_seen(void) {
    struct schedule s = schedule_constant(1000, 4 * S);
    arrive(DISTRIBUTION_FIXED, &s, S / 2000, 2); /* pairs */
    CHECK(!arrivals_test(records, COUNT, &s, DISTRIBUTION_FIXED).ok);
    arrive(DISTRIBUTION_FIXED, &s, 0, 1);
    CHECK(!arrivals_test(records, COUNT, &s, DISTRIBUTION_EXP).ok); /* even gaps are no Poisson process */
}

static void what_is_sent_together_is_one_arrival(void) {
    struct schedule s = schedule_constant(1000, 4 * S);
    arrive(DISTRIBUTION_FIXED, &s, 0, 1);
    for (int i = 0; i < COUNT; i++) records[i] = records[i / 4 * 4];
    struct arrivals_test t = arrivals_test(records, COUNT, &s, DISTRIBUTION_FIXED);
    CHECK(t.ok);
    CHECK_INT(COUNT / 4 - 1, t.gaps);
}

static void waits_are_not_the_pacers(void) {
    struct schedule s = schedule_constant(1000, 4 * S);
    arrive(DISTRIBUTION_FIXED, &s, 0, 1);
    for (int i = 0; i < COUNT; i += 10) {
        records[i].waited = 1;
        records[i].late_ns = 100000000;
    }
    struct arrivals_test t = arrivals_test(records, COUNT, &s, DISTRIBUTION_FIXED);
    CHECK(t.ok);
    CHECK_INT(COUNT - 800, t.gaps);
    CHECK(isnan(arrivals_test(records, 100, &s, DISTRIBUTION_FIXED).cv)); /* too few */
}

/* Latencies around 10 ms, times `factor` in the first `first` ms. */
static struct trend trend_of(double factor, uint64_t first_ms, double growth) {
    uint64_t random = 3;
    for (uint64_t i = 0; i < COUNT; i++) {
        double ms = 10 * (0.5 + random_unit(&random)) * (i < first_ms ? factor : 1) * (1 + growth * (double)i / COUNT);
        records[i] = record_make(i * 1000000, 0, (uint64_t)(ms * 1e6), OUTCOME_SUCCESS, false, 0);
    }
    return trend_test(records, COUNT, 4 * S);
}

static void a_steady_window_has_no_trend(void) {
    struct trend t = trend_of(1, 0, 0);
    CHECK(t.known && t.stationary && t.settles);
    CHECK_INT(0, t.warmup_missing_ns);
    CHECK_NEAR(10000, t.medians_us[4], 1000);
}

static void a_warm_up_that_was_too_short_is_measured(void) {
    struct trend t = trend_of(3, 1100, 0);
    CHECK(t.known && !t.stationary && t.settles);
    CHECK_NEAR(1.2, (double)t.warmup_missing_ns / (double)S, 0.1);
}

static void growth_never_settles(void) {
    struct trend t = trend_of(1, 0, 5);
    CHECK(t.known && !t.stationary && !t.settles);
    CHECK(t.delta > 0.7 && t.change > 0.5);
}

static void few_requests_tell_nothing(void) { CHECK(!trend_test(records, 100, 4 * S).known); }

int main(void) {
    punctual_arrivals_pass();
    bursts_are_seen();
    what_is_sent_together_is_one_arrival();
    waits_are_not_the_pacers();
    a_steady_window_has_no_trend();
    a_warm_up_that_was_too_short_is_measured();
    growth_never_settles();
    few_requests_tell_nothing();
    return check_result();
}
