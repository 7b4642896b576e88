/* The schedule: which request is due when. Pure; no clock, no state.
 *
 * Request i of the whole run is due at start + i / rate. Thread k of T owns the requests i = k, k + T, ...;
 * its own n-th request ("slot") is request k + n * T, so that all threads together are evenly spaced.
 */
#ifndef AEFM_PACER_H
#define AEFM_PACER_H

#include <stdint.h>

struct pacer {
    uint64_t start_ns;
    double period_ns; /* between two requests of the whole run */
    uint32_t thread;
    uint32_t threads;
};

/* `rate_rps` is the rate of the whole run, > 0. */
struct pacer pacer_make(uint64_t start_ns, double rate_rps, uint32_t thread, uint32_t threads);

/* Return the intended time of the thread's slot, rounded to the nearest ns. Never decreases with `slot`. */
uint64_t pacer_time(const struct pacer *p, uint64_t slot);

/* Return how many of the thread's slots are due before `time_ns`: the first slot that is not. */
uint64_t pacer_slots_before(const struct pacer *p, uint64_t time_ns);

/* Return how many of `total` things (connections) thread `index` of `parts` gets: spread, never floored. */
uint32_t pacer_share(uint32_t total, uint32_t index, uint32_t parts);

#endif
