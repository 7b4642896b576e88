/* Work that costs CPU: a fixed number of iterations, never "spin until the clock says so", which would absorb the
 * interference that an experiment is there to see. One thread works where it is called; several share a queue. */
#ifndef AEFM_MESH_COMPUTE_H
#define AEFM_MESH_COMPUTE_H

#include <stdbool.h>
#include <stdint.h>

/* Iterations per microsecond hold for one loop: the number changes with it. */
#define WORK_VERSION "aefm-mesh 1"

/* Run that many steps of integer arithmetic, each of which needs the one before. */
uint64_t work(uint64_t iterations);

struct job {
    uint64_t iterations, touch_bytes, working_set_bytes;
    void (*done)(void *owner); /* on the thread that posted it */
    void *owner;
    struct job *next;
};

struct compute;

/* `threads` 1: no thread is started. Return NULL with errno where the working set or a thread cannot be had. */
struct compute *compute_new(uint32_t threads, uint64_t working_set_bytes);

/* Do the job now and return true, or let another thread do it: false, and `done` is called by compute_collect(). */
bool compute_run(struct compute *compute, struct job *job);

/* Readable when jobs are done; -1 where there are no threads. */
int compute_descriptor(const struct compute *compute);
void compute_collect(struct compute *compute);

/* CPU time of its threads so far. */
uint64_t compute_cpu_ns(struct compute *compute);
void compute_free(struct compute *compute);

struct calibration {
    double iterations_per_us, spread; /* spread: (largest - smallest) / median */
};

/* The median of short runs on this thread's CPU time; takes half a second. */
struct calibration calibrate(void);

#endif
