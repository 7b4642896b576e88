/* A sleeper wakes late, by about the same each time: it learns by how much, and asks to be woken earlier. */
#ifndef AEFM_WAKING_H
#define AEFM_WAKING_H

#include <stdint.h>

#include "clock.h"

#define WAKING_LEARNING 0.1
#define WAKING_LATENESSES 1.5
#define WAKING_MOST_NS (100 * NS_PER_US)

/* Zero-initialised knows nothing yet. */
struct waking {
    double late_ns; /* on the average, lately */
};

/* It slept until `wanted`, was not woken by anything else, and is awake at `now`; later than WAKING_MOST_NS counts as
 * that, for a machine that was busy once is not slow to wake. */
static inline void waking_learn(struct waking *waking, uint64_t wanted, uint64_t now) {
    if (now < wanted) return;
    uint64_t late = now - wanted < WAKING_MOST_NS ? now - wanted : WAKING_MOST_NS;
    waking->late_ns += ((double)late - waking->late_ns) * WAKING_LEARNING;
}

/* How long before a deadline to stop sleeping: what is left of it then is spun away. */
static inline uint64_t waking_lead_ns(const struct waking *waking) {
    uint64_t lead = (uint64_t)(WAKING_LATENESSES * waking->late_ns);
    return lead < WAKING_MOST_NS ? lead : WAKING_MOST_NS;
}

#endif
