#include "watch.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "looks.h"

#define ABORT_LEAD_NS (20 * NS_PER_MS) /* so that all threads know of the end before anything is due after it */

/* What was looked at for --abort-on. */
struct aborting {
    struct abort_watch watch;
    size_t *seen; /* of the records of each thread */
    uint64_t attempted, failed;
};

/* Sleep until `deadline`, a stop, until all threads have finished, or the window shall end earlier. */
static void sleep_until(struct run *run, uint64_t deadline) {
    struct pollfd wait = {.fd = run->progress_fd, .events = POLLIN};
    uint64_t value, now = now_ns();
    while (now < deadline && !atomic_load(&run->stop) && atomic_load(&run->finished) < run->options->threads) {
        struct timespec left = ns_to_timespec(deadline - now);
        if (ppoll(&wait, 1, &left, NULL) > 0) {
            if (read(run->progress_fd, &value, sizeof value) < 0 || atomic_load(&run->end_ns) < deadline) return;
        }
        now = now_ns();
    }
}

static void count_new(struct aborting *a, const struct run *run, const struct worker *workers) {
    for (uint32_t i = 0; i < run->options->threads; i++) {
        const struct record_log *log = &workers[i].records;
        for (size_t count = record_count(log); a->seen[i] < count; a->seen[i]++) {
            enum outcome outcome = (enum outcome)record_at(log, a->seen[i])->outcome;
            a->attempted += outcome != OUTCOME_UNSENT;
            a->failed += outcome != OUTCOME_UNSENT && outcome != OUTCOME_SUCCESS;
        }
    }
}

static void look_for_abort(struct aborting *a, struct run *run, const struct worker *workers) {
    uint64_t now = now_ns(), end = now + ABORT_LEAD_NS;
    count_new(a, run, workers);
    if (!abort_applies(&a->watch, &run->options->abort_on, now, a->attempted, a->failed)) return;
    run_end(run, ENDED_BY_ABORT, end < run->window_end_ns ? end : run->window_end_ns);
}

static bool goes_on(struct run *run) {
    return now_ns() < atomic_load(&run->end_ns) && !atomic_load(&run->stop) &&
           atomic_load(&run->finished) < run->options->threads;
}

void watch_window(struct report *r, struct run *run, const struct worker *workers) {
    const struct abort_rule *rule = &run->options->abort_on;
    struct aborting aborting = {.seen = must_alloc(run->options->threads, sizeof *aborting.seen)};
    sleep_until(run, run->window_start_ns);
    observe(&r->at_start, workers, run->options->threads);
    struct looks *looks = looks_begin(run, workers);
    abort_applies(&aborting.watch, rule, run->window_start_ns, 0, 0);
    while (goes_on(run)) {
        uint64_t end = atomic_load(&run->end_ns), look = rule->over_ns ? now_ns() + abort_look_ns(rule) : end;
        bool is_ending = atomic_load(&run->ending) != ENDED_BY_DURATION;
        sleep_until(run, look < end && !is_ending ? look : end);
        if (rule->over_ns && !is_ending) look_for_abort(&aborting, run, workers);
    }
    observe(&r->at_end, workers, run->options->threads);
    looks_end(looks, &r->at_end);
    r->abort_error_rate = aborting.watch.error_rate;
    free(aborting.seen);
}
