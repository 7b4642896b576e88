#include "observe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"

#define OFFSET_TRIES 5

/* The tightest of a few readings: a preemption between two clocks would look like a step. */
static int64_t wall_offset(void) {
    uint64_t best = UINT64_MAX;
    int64_t offset = 0;
    for (int i = 0; i < OFFSET_TRIES; i++) {
        uint64_t before = now_ns(), wall = clock_read_ns(CLOCK_REALTIME), after = now_ns();
        if (after - before >= best) continue;
        best = after - before;
        offset = (int64_t)(wall - (before + best / 2));
    }
    return offset;
}

static void read_steal(struct observation *seen) {
    uint64_t t[8] = {0};
    FILE *file = fopen("/proc/stat", "r");
    if (!file) return;
    int n = fscanf(file, "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                         " %" SCNu64, &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]);
    fclose(file);
    seen->has_steal = n == 8;
    seen->steal_ticks = t[7];
    for (int i = 0; i < 8; i++) seen->all_ticks += t[i];
}

static int64_t run_delay(int tid) {
    char path[64];
    uint64_t running, waiting;
    snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", tid);
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    int n = fscanf(file, "%" SCNu64 " %" SCNu64, &running, &waiting);
    fclose(file);
    return n == 2 ? (int64_t)waiting : -1;
}

/* Workers leave only after the last look: their clocks and files in /proc are there. */
static uint64_t cpu_time(const struct worker *w) {
    clockid_t clock;
    return pthread_getcpuclockid(w->thread, &clock) == 0 ? clock_read_ns(clock) : 0;
}

void observe(struct observation *seen, const struct worker *workers, uint32_t count) {
    *seen = (struct observation){.mono_ns = now_ns(), .wall_offset_ns = wall_offset()};
    seen->cpu_ns = must_alloc(count, sizeof *seen->cpu_ns);
    seen->run_delay_ns = must_alloc(count, sizeof *seen->run_delay_ns);
    for (uint32_t i = 0; i < count; i++) {
        seen->cpu_ns[i] = cpu_time(&workers[i]);
        seen->run_delay_ns[i] = run_delay(workers[i].tid);
    }
    read_steal(seen);
}

void observation_free(struct observation *seen) {
    free(seen->cpu_ns);
    free(seen->run_delay_ns);
}
