/* Which request is due when: gaps of mean 1, which a schedule's rate turns into time. Pure; no clock.
 *
 * Request i of the whole run is due when the schedule has asked for i requests (`fixed`), or for the sum of the first
 * i + 1 random gaps. Thread k of T owns the requests i = k, k + T, ...: all threads together are one process, whose
 * times do not depend on T.
 */
#ifndef AEFM_PACER_H
#define AEFM_PACER_H

#include "schedule.h"

enum distribution {
    DISTRIBUTION_FIXED,
    DISTRIBUTION_EXP,  /* a Poisson process */
    DISTRIBUTION_NORM, /* gaps 1 +- 0.25, above 0 */
    DISTRIBUTION_ZIPF, /* k = 1 to 100 units with probability ~ 1 / k^3, as DeathStarBench's wrk2 has it */
    DISTRIBUTIONS
};

struct pacer {
    const struct schedule *schedule;
    enum distribution distribution;
    uint64_t start_ns;
    uint32_t thread, threads;
    uint64_t slot;     /* of the thread: how many of its requests were asked for */
    double requests;   /* sum of gaps so far */
    uint64_t random;
    double zipf_scale, zipf_unit; /* 1 / sum of 1 / k^3, 1 / mean of k */
};

const char *distribution_name(enum distribution distribution);

/* Return DISTRIBUTIONS when there is none of that name. */
enum distribution distribution_named(const char *name);

struct pacer pacer_make(const struct schedule *schedule, enum distribution distribution, uint64_t seed,
                        uint64_t start_ns, uint32_t thread, uint32_t threads);

/* Return when the thread's next request is due, in ns. Never decreases. */
uint64_t pacer_next(struct pacer *p);

/* Return how many of `total` things (connections) thread `index` of `parts` gets: spread, never floored. */
uint32_t pacer_share(uint32_t total, uint32_t index, uint32_t parts);

#endif
