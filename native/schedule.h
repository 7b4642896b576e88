/* The rate over time: steps and ramps, and when how many requests have been asked for. Pure; no clock, no state. */
#ifndef AEFM_SCHEDULE_H
#define AEFM_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCHEDULE_PHASES 64u
#define SCHEDULE_NEVER UINT64_C(3200000000000000000) /* a century: far from where additions overflow */

/* The rate changes linearly over a phase. */
struct phase {
    double from_rps, to_rps;
    uint64_t duration_ns;
};

/* After its last phase a schedule goes on at that one's last rate. */
struct schedule {
    struct phase phases[SCHEDULE_PHASES];
    size_t count;
};

struct schedule schedule_constant(double rate_rps, uint64_t duration_ns);

/* Parse "100:10s,200..800:60s". Return NULL, or what was expected. */
const char *schedule_parse(const char *text, struct schedule *s);

/* Put a time at the first rate in front. Return false when there are too many phases. */
bool schedule_precede(struct schedule *s, uint64_t duration_ns);

/* Tell whether it asks for one rate only. */
bool schedule_is_constant(const struct schedule *s);

uint64_t schedule_duration(const struct schedule *s);

/* Return how many requests are asked for in [0, time_ns), a real number, and its inverse to the nearest ns: the first
 * time by which `requests` are asked for, SCHEDULE_NEVER when that does not come. */
double schedule_count(const struct schedule *s, uint64_t time_ns);
uint64_t schedule_time(const struct schedule *s, double requests);

#endif
