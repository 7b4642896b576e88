#include "mesh/compute.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "buffer.h"
#include "clock.h"
#include "mesh/sampler.h"

#define LINE_BYTES 64u
#define RUNS 9
#define RUN_US 50000.0

struct compute {
    unsigned char *memory;
    uint64_t working_set_bytes;
    struct rng rng; /* of the caller's own work */
    pthread_mutex_t lock;
    pthread_cond_t posted;
    struct job *first, **last; /* to do, in order */
    struct job *done;
    bool over;
    int event_fd;
    uint32_t threads;
    pthread_t ids[];
};

uint64_t work(uint64_t iterations) {
    uint64_t value = 1;
    for (; iterations; iterations--) {
        value = value * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        __asm__ volatile("" : "+r"(value)); /* each step happens, one by one */
    }
    return value;
}

static void touch(struct compute *c, const struct job *job, struct rng *rng) {
    uint64_t lines = job->working_set_bytes / LINE_BYTES;
    for (uint64_t left = job->touch_bytes / LINE_BYTES; left; left--) {
        uint64_t line = (uint64_t)(((__uint128_t)rng_next(rng) * lines) >> 64);
        /* Several threads may write here at once: what they write does not matter. */
        __atomic_store_n(c->memory + line * LINE_BYTES, (unsigned char)left, __ATOMIC_RELAXED);
    }
}

static void perform(struct compute *c, const struct job *job, struct rng *rng) {
    work(job->iterations);
    if (job->touch_bytes) touch(c, job, rng);
}

static void *serve(void *argument) {
    struct compute *c = argument;
    struct rng rng;
    rng_seed(&rng, (uint64_t)(uintptr_t)&rng);
    pthread_mutex_lock(&c->lock);
    while (!c->over) {
        struct job *job = c->first;
        if (!job) {
            pthread_cond_wait(&c->posted, &c->lock);
            continue;
        }
        c->first = job->next;
        if (!c->first) c->last = &c->first;
        pthread_mutex_unlock(&c->lock);
        perform(c, job, &rng);
        pthread_mutex_lock(&c->lock);
        job->next = c->done;
        c->done = job;
        if (!job->next) eventfd_write(c->event_fd, 1);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static bool get_memory(struct compute *c, uint64_t bytes) {
    if (!bytes) return true;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) return false;
    c->memory = memory;
    c->working_set_bytes = bytes;
    return true;
}

struct compute *compute_new(uint32_t threads, uint64_t working_set_bytes) {
    struct compute *c = must_alloc(1, sizeof *c + threads * sizeof c->ids[0]);
    c->event_fd = -1;
    c->last = &c->first;
    rng_seed(&c->rng, 1);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->posted, NULL);
    bool ok = get_memory(c, working_set_bytes);
    if (ok && threads > 1) ok = (c->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) >= 0;
    while (ok && threads > 1 && c->threads < threads) {
        int error = pthread_create(&c->ids[c->threads], NULL, serve, c);
        if (error) errno = error;
        else c->threads++;
        ok = error == 0;
    }
    if (ok) return c;
    int error = errno;
    compute_free(c);
    errno = error;
    return NULL;
}

bool compute_run(struct compute *c, struct job *job) {
    if (!c->threads) {
        perform(c, job, &c->rng);
        return true;
    }
    job->next = NULL;
    pthread_mutex_lock(&c->lock);
    *c->last = job;
    c->last = &job->next;
    pthread_cond_signal(&c->posted);
    pthread_mutex_unlock(&c->lock);
    return false;
}

int compute_descriptor(const struct compute *c) { return c->event_fd; }

void compute_collect(struct compute *c) {
    eventfd_t count;
    struct job *inverted = NULL;
    eventfd_read(c->event_fd, &count);
    pthread_mutex_lock(&c->lock);
    struct job *done = c->done;
    c->done = NULL;
    pthread_mutex_unlock(&c->lock);
    for (struct job *next; done; done = next) { /* the latest lies on top */
        next = done->next;
        done->next = inverted;
        inverted = done;
    }
    for (struct job *next; inverted; inverted = next) {
        next = inverted->next;
        inverted->done(inverted->owner);
    }
}

uint64_t compute_cpu_ns(struct compute *c) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < c->threads; i++) {
        clockid_t id;
        if (pthread_getcpuclockid(c->ids[i], &id) == 0) sum += clock_read_ns(id);
    }
    return sum;
}

void compute_free(struct compute *c) {
    if (!c) return;
    pthread_mutex_lock(&c->lock);
    c->over = true;
    pthread_cond_broadcast(&c->posted);
    pthread_mutex_unlock(&c->lock);
    for (uint32_t i = 0; i < c->threads; i++) pthread_join(c->ids[i], NULL);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->posted);
    if (c->event_fd >= 0) close(c->event_fd);
    if (c->memory) munmap(c->memory, c->working_set_bytes);
    free(c);
}

static double cpu_us_of(uint64_t iterations) {
    uint64_t start = clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
    work(iterations);
    uint64_t took = clock_read_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    return took ? (double)took / 1e3 : 1e-3;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct calibration calibrate(void) {
    double rates[RUNS], rate = 1e6 / cpu_us_of(1000000);
    for (int i = 0; i < RUNS; i++) {
        uint64_t iterations = (uint64_t)(rate * RUN_US) + 1;
        rates[i] = rate = (double)iterations / cpu_us_of(iterations);
    }
    qsort(rates, RUNS, sizeof rates[0], compare);
    double median = rates[RUNS / 2];
    return (struct calibration){median, (rates[RUNS - 1] - rates[0]) / median};
}
