#include "collect.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"

static void collect_rates(struct report *r, const struct worker *w) {
    size_t whole = r->duration_ns / NS_PER_S;
    for (size_t s = 0; s < whole && s < w->seconds; s++) hist_record(r->rates, w->per_second[s]);
}

static struct record *collect_log(struct report *r, const struct worker *w, struct record *to) {
    uint32_t numbers[TAGS_MAX] = {TAG_NONE};
    for (uint32_t t = 1; t <= w->tags->count; t++) {
        const char *name = tag_name(w->tags, t);
        uint32_t number = tag_number(&r->tags, name, strlen(name));
        numbers[t] = number == TAG_BAD ? TAG_NONE : number;
    }
    for (size_t i = 0; i < record_count(&w->records); i++, to++) {
        *to = *record_at(&w->records, i);
        to->tag = numbers[to->tag] & 2047;
    }
    return to;
}

/* Put the records of all threads together, tags by the report's numbers. */
static void collect_records(struct report *r, const struct worker *workers, uint32_t threads) {
    for (uint32_t i = 0; i < threads; i++) r->record_count += record_count(&workers[i].records);
    r->records = must_alloc(r->record_count + 1, sizeof *r->records);
    struct record *to = r->records;
    for (uint32_t i = 0; i < threads; i++) to = collect_log(r, &workers[i], to);
    qsort(r->records, r->record_count, sizeof *r->records, record_order);
}

static void collect_time(struct report *r, const struct run *run, const struct worker *workers) {
    queue_track_open(&r->waiting, run->window_start_ns, run->window_end_ns);
    r->seconds = workers[0].seconds;
    r->completed = must_alloc(r->seconds + 1, sizeof *r->completed);
    for (uint32_t i = 0; i < run->options->threads; i++) {
        queue_track_merge(&r->waiting, &workers[i].waiting);
        for (size_t s = 0; s < r->seconds; s++) r->completed[s] += workers[i].per_second[s];
    }
}

/* Count a request again, from its record; all of them were sent, or could not be. */
static void count_again(struct tally *t, const struct record *r, bool uncorrected) {
    t->offered++;
    t->bytes_read += r->bytes_read;
    t->bytes_written += r->bytes_written;
    tally_value(&t->latency[r->outcome], 0, r->latency_ns);
    if (r->outcome >= OUTCOME_CONNECT_ERROR) return;
    tally_value(r->waited ? &t->backlog : &t->pacer_lag, 0, r->late_ns);
    if (uncorrected && r->outcome == OUTCOME_SUCCESS) tally_value(&t->uncorrected, r->late_ns, r->latency_ns);
}

/* Of a window that ended before what was due after it had ended: leave that out, of every count. */
static void leave_out_later(struct report *r) {
    uint64_t longest_queue = r->total.backlog_max;
    tally_free(&r->total);
    r->total = (struct tally){.backlog_max = longest_queue};
    for (uint32_t i = 0; i < r->tagged.count; i++) {
        tally_free(&r->tagged.tallies[i]);
        r->tagged.tallies[i] = (struct tally){0};
    }
    size_t kept = 0;
    while (kept < r->record_count && r->records[kept].due_ns < r->duration_ns) kept++;
    r->record_count = kept;
    for (size_t i = 0; i < kept; i++) {
        const struct record *record = &r->records[i];
        count_again(&r->total, record, r->options->print_uncorrected);
        if (r->tagged.count) count_again(tagged_tally(&r->tagged, record->tag), record, false);
    }
}

void collect(struct report *r, const struct run *run, const struct worker *workers) {
    uint64_t end = atomic_load(&run->end_ns), finished = now_ns();
    uint32_t threads = run->options->threads;
    r->ending = (enum ending)atomic_load(&run->ending);
    r->window_start_ns = run->window_start_ns;
    r->rates = must_alloc(1, sizeof *r->rates);
    r->rates->min_us = UINT64_MAX;
    for (uint32_t i = 0; i < threads; i++) {
        if (workers[i].window_end_ns < end) end = workers[i].window_end_ns;
        r->interrupted |= workers[i].interrupted;
    }
    r->duration_ns = end > r->window_start_ns ? end - r->window_start_ns : 0;
    r->drain_ns = finished > end ? finished - end : 0;
    for (uint32_t i = 0; i < threads; i++) {
        const struct worker *w = &workers[i];
        tally_merge(&r->total, &w->tally);
        if (w->tags->count) tagged_merge(&r->tagged, &r->tags, &w->tagged, w->tags);
        r->reached += w->reached_max;
        r->reached_at_start += w->reached_at_start;
        r->open_failures += w->open_failures;
        r->grown += w->grown;
        collect_rates(r, w);
    }
    collect_records(r, workers, threads);
    if (r->ending == ENDED_BY_PRECISION) {
        r->interrupted = false; /* if at all, then after its end */
        leave_out_later(r);
    }
    r->records_full = r->record_count < r->total.offered;
    collect_time(r, run, workers);
    report_check_self(r);
}
