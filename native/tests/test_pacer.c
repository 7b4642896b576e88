/* The schedule is even, complete and exact. */
#include "check.h"
#include "pacer.h"

#define S 1000000000ull

static void times_follow_the_table(void) {
    static const struct {
        double rate;
        uint32_t thread, threads;
        uint64_t slot, expected;
    } table[] = {
        {1, 0, 1, 0, 0},           {1, 0, 1, 3, 3 * S},        {1000, 0, 1, 1, S / 1000},
        {20, 1, 2, 0, S / 20},     {20, 0, 2, 1, S / 10},      {20, 1, 2, 9, 19 * (S / 20)},
        {3, 0, 1, 1, 333333333},   {3, 0, 1, 2, 666666667},    {3, 0, 1, 3, S},
        {0.5, 0, 1, 1, 2 * S},     {0.5, 2, 3, 1, 10 * S},     {1e6, 0, 1, 3600000000ull, 3600 * S},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct pacer p = pacer_make(7, table[i].rate, table[i].thread, table[i].threads);
        CHECK_INT(7 + table[i].expected, pacer_time(&p, table[i].slot));
    }
}

static void threads_together_are_evenly_spaced(void) {
    for (uint32_t threads = 1; threads <= 5; threads++) {
        for (uint64_t request = 0; request < 100; request++) {
            struct pacer p = pacer_make(0, 20, (uint32_t)(request % threads), threads);
            CHECK_INT(request * (S / 20), pacer_time(&p, request / threads));
        }
    }
}

static void counts_agree_with_times(void) {
    static const double rates[] = {0.001, 0.5, 1, 3, 7.7, 999.999, 1e5, 1e9};
    for (size_t r = 0; r < sizeof rates / sizeof *rates; r++) {
        for (uint32_t thread = 0; thread < 3; thread++) {
            struct pacer p = pacer_make(12345, rates[r], thread, 3);
            for (uint64_t slot = 0; slot < 2000; slot += 7) {
                uint64_t time = pacer_time(&p, slot);
                CHECK(pacer_slots_before(&p, time) <= slot);
                CHECK(pacer_slots_before(&p, time + 1) >= slot + 1);
            }
            CHECK_INT(0, pacer_slots_before(&p, 0));
        }
    }
}

static void the_window_holds_rate_times_duration(void) {
    static const struct { double rate; uint64_t warmup, duration, expected; } table[] = {
        {1000, 0, 3 * S, 3000}, {1, 0, 3 * S, 3}, {1, 5 * S, 3 * S, 3}, {3, S, S, 3}, {0.5, 0, 2 * S, 1},
        {333, 5 * S, 7 * S, 2331}, {1e5, S, 10 * S, 1000000},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        for (uint32_t threads = 1; threads <= 4; threads++) {
            uint64_t sum = 0;
            for (uint32_t k = 0; k < threads; k++) {
                struct pacer p = pacer_make(S, table[i].rate, k, threads);
                uint64_t from = S + table[i].warmup;
                sum += pacer_slots_before(&p, from + table[i].duration) - pacer_slots_before(&p, from);
            }
            CHECK_INT(table[i].expected, sum);
        }
    }
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
    struct pacer p = pacer_make(S, 0.001, 0, 1);
    CHECK(pacer_time(&p, UINT64_MAX / 2) > pacer_time(&p, 1));
}

int main(void) {
    times_follow_the_table();
    threads_together_are_evenly_spaced();
    counts_agree_with_times();
    the_window_holds_rate_times_duration();
    connections_are_spread_not_floored();
    far_times_do_not_overflow();
    return check_result();
}
