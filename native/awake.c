#include "awake.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

struct awake {
    atomic_bool over;
    atomic_uint taken; /* processors that have their thread */
    cpu_set_t allowed;
    uint32_t count;
    pthread_t threads[];
};

static inline void breathe(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int nth_processor(const cpu_set_t *set, unsigned n) {
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, set) && n-- == 0) return cpu;
    }
    return -1;
}

static void *spin(void *argument) {
    struct awake *a = argument;
    struct sched_param none = {0};
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(nth_processor(&a->allowed, atomic_fetch_add(&a->taken, 1)), &one);
    /* At any other priority it would disturb what it is meant to serve. */
    if (sched_setaffinity(0, sizeof one, &one) != 0 || sched_setscheduler(0, SCHED_IDLE, &none) != 0) return NULL;
    while (!atomic_load_explicit(&a->over, memory_order_relaxed)) breathe();
    return NULL;
}

struct awake *awake_begin(uint32_t count) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return NULL;
    if (count > (uint32_t)CPU_COUNT(&allowed)) count = (uint32_t)CPU_COUNT(&allowed);
    struct awake *a = calloc(1, sizeof *a + count * sizeof a->threads[0]);
    if (!a) return NULL;
    a->allowed = allowed;
    while (a->count < count && pthread_create(&a->threads[a->count], NULL, spin, a) == 0) a->count++;
    return a;
}

void awake_end(struct awake *a) {
    if (!a) return;
    struct sched_param none = {0};
    atomic_store(&a->over, true);
    /* On a busy core a thread of idle priority would wait for seconds until it may look, and end. Where the user may not
     * raise it again (RLIMIT_NICE), another core may have time for it. */
    for (uint32_t i = 0; i < a->count; i++) {
        if (pthread_setschedparam(a->threads[i], SCHED_OTHER, &none) != 0) {
            pthread_setaffinity_np(a->threads[i], sizeof a->allowed, &a->allowed);
        }
    }
    for (uint32_t i = 0; i < a->count; i++) pthread_join(a->threads[i], NULL);
    free(a);
}
