/* Timers of one thread: a heap of deadlines that lie in their owners. */
#ifndef AEFM_MESH_TIMERS_H
#define AEFM_MESH_TIMERS_H

#include <stdint.h>

struct timer {
    uint64_t when_ns; /* CLOCK_MONOTONIC */
    uint32_t place;   /* in the heap, from 1; 0: not set */
    void (*fire)(void *owner);
    void *owner;
};

/* Zero-initialised is empty. */
struct timers {
    struct timer **heap;
    uint32_t count, capacity;
};

/* Set, or set anew; `timer` must stay where it is until it fired or was unset. */
void timer_set(struct timers *timers, struct timer *timer, uint64_t when_ns);
void timer_unset(struct timers *timers, struct timer *timer);

/* The earliest deadline, UINT64_MAX where there is none. */
uint64_t timers_next_ns(const struct timers *timers);

/* Fire what is due at `now`, in order of deadlines; a timer is unset when it fires. */
void timers_fire(struct timers *timers, uint64_t now);
void timers_free(struct timers *timers);

#endif
