/* A run's tests of itself: did requests leave as they were meant to, and did the window see a steady state? Pure. */
#ifndef AEFM_SELFTEST_H
#define AEFM_SELFTEST_H

#include "pacer.h"
#include "record.h"

#define TREND_PARTS 10

struct arrivals_test {
    size_t gaps;              /* that could be tested */
    double cv, cv_asked;      /* NAN where too few */
    double anderson_darling;  /* NAN but for `exp` */
    double distance;
    bool ok;
    double value, limit; /* what decided */
};

/* `schedule` is that of the window. Gaps are in units of their mean at that moment. */
struct arrivals_test arrivals_test(const struct record *records, size_t count, const struct schedule *schedule,
                                   enum distribution distribution);

struct trend {
    bool known;                          /* enough successes in each part */
    uint64_t part_ns;
    int64_t medians_us[TREND_PARTS];     /* -1: no success */
    double delta, change;                /* of the second half against the first */
    bool stationary;
    bool settles;                        /* it became stationary within the first half */
    uint64_t warmup_missing_ns;
};

struct trend trend_test(const struct record *records, size_t count, uint64_t duration_ns);

#endif
