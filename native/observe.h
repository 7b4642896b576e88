/* What the run cost and what the machine did to it: CPU, run delay, steal, the wall clock's steps. */
#ifndef AEFM_OBSERVE_H
#define AEFM_OBSERVE_H

#include "run.h"

struct observation {
    uint64_t mono_ns;
    int64_t wall_offset_ns; /* CLOCK_REALTIME - CLOCK_MONOTONIC */
    bool has_steal;
    uint64_t steal_ticks, all_ticks;
    uint64_t *cpu_ns;       /* of each worker */
    int64_t *run_delay_ns;  /* runnable but not running; -1 where the kernel does not tell */
};

/* Look now. The arrays have one entry per worker; observation_free() frees them. */
void observe(struct observation *seen, const struct worker *workers, uint32_t count);
void observation_free(struct observation *seen);

#endif
