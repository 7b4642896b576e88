/* A sleeper wakes late, by about the same each time: it learns by how much, and asks to be woken earlier. */
#ifndef AEFM_WAKING_H
#define AEFM_WAKING_H

#include <stdint.h>

#define WAKING_LEARNING 0.1

/* Zero-initialised knows nothing yet. */
struct waking {
    double late_ns; /* on the average, lately */
};

/* It slept until `wanted`, was not woken by anything else, and is awake at `now`; later than `most_ns` counts as that,
 * for a machine that was busy once is not slow to wake. */
static inline void waking_learn(struct waking *waking, uint64_t wanted, uint64_t now, uint64_t most_ns) {
    if (now < wanted) return;
    uint64_t late = now - wanted < most_ns ? now - wanted : most_ns;
    waking->late_ns += ((double)late - waking->late_ns) * WAKING_LEARNING;
}

#endif
