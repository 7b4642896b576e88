/* Arrivals: even, complete and exact, or random with the right moments; the same whatever the number of threads. */
#include "check.h"
#include "pacer.h"

#define S 1000000000ull
#define MANY 200000

static uint64_t nth(struct pacer p, uint64_t slot) {
    uint64_t time = pacer_next(&p);
    while (slot--) time = pacer_next(&p);
    return time;
}

static void fixed_times_follow_the_table(void) {
    static const struct {
        double rate;
        uint32_t thread, threads;
        uint64_t slot, expected;
    } table[] = {
        {1, 0, 1, 0, 0},           {1, 0, 1, 3, 3 * S},        {1000, 0, 1, 1, S / 1000},
        {20, 1, 2, 0, S / 20},     {20, 0, 2, 1, S / 10},      {20, 1, 2, 9, 19 * (S / 20)},
        {3, 0, 1, 1, 333333333},   {3, 0, 1, 2, 666666667},    {3, 0, 1, 3, S},
        {0.5, 0, 1, 1, 2 * S},     {0.5, 2, 3, 1, 10 * S},     {1e6, 0, 1, 3600000, 36 * S / 10},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct schedule s = schedule_constant(table[i].rate, 3600 * S);
        struct pacer p = pacer_make(&s, DISTRIBUTION_FIXED, 0, 7, table[i].thread, table[i].threads);
        CHECK_INT(7 + table[i].expected, nth(p, table[i].slot));
    }
}

static void threads_do_not_change_the_arrivals(void) {
    struct schedule s;
    CHECK(!schedule_parse("20:5s,20..60:10s", &s));
    for (int d = 0; d < DISTRIBUTIONS; d++) {
        for (uint32_t threads = 2; threads <= 5; threads++) {
            struct pacer one = pacer_make(&s, (enum distribution)d, 5, 0, 0, 1), many[5];
            for (uint32_t k = 0; k < threads; k++) many[k] = pacer_make(&s, (enum distribution)d, 5, 0, k, threads);
            for (uint64_t i = 0; i < 300; i++) CHECK_INT(pacer_next(&one), pacer_next(&many[i % threads]));
        }
    }
}

static void the_window_holds_rate_times_duration(void) {
    static const struct { double rate; uint64_t warmup, duration, expected; } table[] = {
        {1000, 0, 3 * S, 3000}, {1, 0, 3 * S, 3}, {1, 5 * S, 3 * S, 3}, {3, S, S, 3}, {0.5, 0, 2 * S, 1},
        {333, 5 * S, 7 * S, 2331}, {1e5, S, 3 * S, 300000},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        for (uint32_t threads = 1; threads <= 4; threads++) {
            struct schedule s = schedule_constant(table[i].rate, table[i].warmup + table[i].duration);
            uint64_t from = S + table[i].warmup, sum = 0;
            for (uint32_t k = 0; k < threads; k++) {
                struct pacer p = pacer_make(&s, DISTRIBUTION_FIXED, 0, S, k, threads);
                for (uint64_t at = pacer_next(&p); at < from + table[i].duration; at = pacer_next(&p)) sum += at >= from;
            }
            CHECK_INT(table[i].expected, sum);
        }
    }
}

static void gaps_have_the_moments_of_their_distribution(void) {
    static const struct { enum distribution distribution; double deviation, tolerance; } table[] = {
        {DISTRIBUTION_FIXED, 0, 0.01}, {DISTRIBUTION_EXP, 1, 0.02}, {DISTRIBUTION_NORM, 0.25, 0.005},
        {DISTRIBUTION_ZIPF, 1.154, 0.15}, /* of k = 1 to 100 with 1 / k^3, a heavy tail */
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct schedule s = schedule_constant(1000, S);
        struct pacer p = pacer_make(&s, table[i].distribution, 42, 0, 0, 1);
        double before = 0, sum = 0, squares = 0;
        for (int n = 0; n < MANY; n++) {
            double at = (double)pacer_next(&p), gap = (at - before) / 1e6;
            CHECK(gap >= 0);
            sum += gap;
            squares += gap * gap;
            before = at;
        }
        double mean = sum / MANY;
        CHECK_NEAR(1, mean, 0.02);
        CHECK_NEAR(table[i].deviation, sqrt(squares / MANY - mean * mean), table[i].tolerance);
    }
}

static void a_seed_reproduces_and_another_does_not(void) {
    struct schedule s = schedule_constant(1000, S);
    struct pacer a = pacer_make(&s, DISTRIBUTION_EXP, 1, 0, 0, 1), b = a;
    struct pacer other = pacer_make(&s, DISTRIBUTION_EXP, 2, 0, 0, 1);
    for (int i = 0; i < 100; i++) {
        uint64_t time = pacer_next(&a);
        CHECK_INT(time, pacer_next(&b));
        CHECK(time != pacer_next(&other));
    }
}

static void a_poisson_process_follows_a_ramp(void) {
    struct schedule s;
    CHECK(!schedule_parse("0..20000:10s", &s));
    struct pacer p = pacer_make(&s, DISTRIBUTION_EXP, 3, 0, 0, 1);
    int first = 0, second = 0;
    for (uint64_t at = pacer_next(&p); at < 10 * S; at = pacer_next(&p)) (*(at < 5 * S ? &first : &second))++;
    CHECK_NEAR(25000, first, 800);
    CHECK_NEAR(75000, second, 1400);
}

static void connections_are_spread_not_floored(void) {
    for (uint32_t total = 1; total < 40; total++) {
        for (uint32_t parts = 1; parts <= total; parts++) {
            uint32_t sum = 0;
            for (uint32_t k = 0; k < parts; k++) {
                uint32_t share = pacer_share(total, k, parts);
                CHECK(share == total / parts || share == total / parts + 1);
                sum += share;
            }
            CHECK_INT(total, sum);
        }
    }
    CHECK_INT(3, pacer_share(10, 0, 4));
    CHECK_INT(2, pacer_share(10, 3, 4));
}

static void far_times_do_not_overflow(void) {
    struct schedule s = schedule_constant(0.001, S);
    struct pacer p = pacer_make(&s, DISTRIBUTION_FIXED, 0, S, 0, 1);
    p.slot = UINT64_MAX / 2;
    CHECK_INT(S + SCHEDULE_NEVER, pacer_next(&p));
}

static void distributions_have_names(void) {
    for (int d = 0; d < DISTRIBUTIONS; d++) CHECK_INT(d, distribution_named(distribution_name((enum distribution)d)));
    CHECK_INT(DISTRIBUTIONS, distribution_named("even"));
}

int main(void) {
    fixed_times_follow_the_table();
    threads_do_not_change_the_arrivals();
    the_window_holds_rate_times_duration();
    gaps_have_the_moments_of_their_distribution();
    a_seed_reproduces_and_another_does_not();
    a_poisson_process_follows_a_ramp();
    connections_are_spread_not_floored();
    far_times_do_not_overflow();
    distributions_have_names();
    return check_result();
}
