/* Time in nanoseconds. Deadlines and intervals live on CLOCK_MONOTONIC; the wall clock is for reports only. */
#ifndef AEFM_CLOCK_H
#define AEFM_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_US UINT64_C(1000)

static inline uint64_t clock_read_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static inline uint64_t now_ns(void) { return clock_read_ns(CLOCK_MONOTONIC); }

static inline struct timespec ns_to_timespec(uint64_t ns) {
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

/* Microseconds, rounded to the nearest: what the histograms hold. */
static inline uint64_t ns_to_us(uint64_t ns) { return (ns + 500) / NS_PER_US; }

#endif
