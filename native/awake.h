/* Keep processors awake. A core that sleeps between requests is woken late: by its own power management or, if it is
 * a virtual one, by the host, which gives it away meanwhile. One thread per core spins at the lowest priority there is
 * (SCHED_IDLE): whatever else wants to run there takes its place at once. */
#ifndef AEFM_AWAKE_H
#define AEFM_AWAKE_H

#include <stdint.h>

struct awake;

/* Spin on the first `count` processors that this process may use (on all, if they are fewer) until awake_end().
 * Return NULL where that cannot be had; the run goes on without. */
struct awake *awake_begin(uint32_t count);
void awake_end(struct awake *awake);

#endif
