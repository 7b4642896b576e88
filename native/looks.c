#include "looks.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "clock.h"

#define NAP_NS (10 * NS_PER_MS)

struct looks {
    struct run *run;
    const struct worker *workers;
    pthread_t thread;
    atomic_bool over;
    bool satisfied;
    struct observation seen; /* at the latest look */
};

/* Sleep for a little; return false when nobody wants to know any more. */
static bool nap(const struct looks *l, uint64_t until) {
    uint64_t now = now_ns(), left = until > now ? until - now : 0;
    struct timespec time = ns_to_timespec(left < NAP_NS ? left : NAP_NS);
    nanosleep(&time, NULL);
    return !atomic_load(&l->over);
}

static bool all_settled(const struct looks *l, uint64_t before) {
    for (uint32_t i = 0; i < l->run->options->threads; i++) {
        if (atomic_load(&l->workers[i].settled_ns) < before) return false;
    }
    return true;
}

/* Take the records of what was due before `duration_ns` of the window, in order. NULL when one log was full. */
static struct record *take(const struct looks *l, uint64_t duration_ns, size_t *count) {
    uint32_t threads = l->run->options->threads;
    size_t most = 0;
    for (uint32_t i = 0; i < threads; i++) most += record_count(&l->workers[i].records);
    struct record *taken = must_alloc(most + 1, sizeof *taken);
    *count = 0;
    for (uint32_t i = 0; i < threads; i++) {
        const struct record_log *log = &l->workers[i].records;
        size_t in_log = record_count(log);
        if (record_log_full(log)) {
            free(taken);
            return NULL;
        }
        for (size_t k = 0; k < in_log && *count < most; k++) {
            if (record_at(log, k)->due_ns < duration_ns) taken[(*count)++] = *record_at(log, k);
        }
    }
    qsort(taken, *count, sizeof *taken, record_order);
    return taken;
}

static bool look(const struct looks *l, uint64_t duration_ns) {
    size_t count;
    struct record *records = take(l, duration_ns, &count);
    bool reached = records && precision_reached(&l->run->options->precision, records, count, duration_ns);
    free(records);
    return reached;
}

static void *look_again(void *argument) {
    struct looks *l = argument;
    struct run *run = l->run;
    const struct options *o = run->options;
    struct sched_param none = {0};
    if (sched_setscheduler(0, SCHED_IDLE, &none) != 0) return NULL;
    for (uint64_t at = precision_next_look(0); at < o->duration_ns; at = precision_next_look(at)) {
        uint64_t end = run->window_start_ns + at;
        while (now_ns() < end) {
            if (!nap(l, end)) return NULL;
        }
        observation_free(&l->seen);
        observe(&l->seen, l->workers, o->threads);
        atomic_store(&run->look_ns, end);
        while (!all_settled(l, end)) {
            if (!nap(l, UINT64_MAX)) return NULL;
        }
        l->satisfied = look(l, at);
        if (l->satisfied) {
            run_end(run, ENDED_BY_PRECISION, end);
            return NULL;
        }
    }
    return NULL;
}

struct looks *looks_begin(struct run *run, const struct worker *workers) {
    if (run->options->precision.percentile == 0) return NULL;
    struct looks *l = must_alloc(1, sizeof *l);
    *l = (struct looks){.run = run, .workers = workers};
    if (pthread_create(&l->thread, NULL, look_again, l) == 0) return l;
    free(l);
    return NULL;
}

void looks_end(struct looks *l, struct observation *at_end) {
    struct sched_param none = {0};
    if (!l) return;
    atomic_store(&l->over, true);
    pthread_setschedparam(l->thread, SCHED_OTHER, &none); /* on a busy core it would end late */
    pthread_join(l->thread, NULL);
    if (l->satisfied && atomic_load(&l->run->ending) == ENDED_BY_PRECISION) {
        observation_free(at_end);
        *at_end = l->seen;
    } else {
        observation_free(&l->seen);
    }
    free(l);
}
