#include "selftest.h"

#include <math.h>
#include <stdlib.h>

#include "buffer.h"
#include "outcome.h"
#include "stats.h"

#define GAPS_MIN 400u
#define GAPS_MAX ((size_t)1 << 20) /* more tell nothing new */
#define TRIM 0.001
#define FIXED_CV_MAX 0.15
#define CV_DIFFERENCE_MAX 0.15
#define DISTANCE_MAX 0.01
#define PART_MIN 20u
#define DELTA_MAX 0.33
#define CHANGE_MAX 0.1

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The coefficient of variation without the largest 0.1 %: one stall of the machine is the pacer lag's matter. */
static double trimmed_variation(double *gaps, size_t count) {
    qsort(gaps, count, sizeof *gaps, ascending);
    return variation(gaps, count - (size_t)ceil(TRIM * (double)count));
}

/* Fill both with the gaps beside which no request waited; return their number. */
static size_t take_gaps(const struct record *records, size_t count, const struct schedule *schedule, double *sent,
                        double *due) {
    size_t gaps = 0;
    bool usable = false;
    double sent_before = 0, due_before = 0;
    for (size_t i = 0; i < count && gaps < GAPS_MAX; i++) {
        const struct record *r = &records[i];
        if (r->waited || r->outcome >= OUTCOME_CONNECT_ERROR) {
            usable = false;
            continue;
        }
        if (usable && r->due_ns == records[i - 1].due_ns) continue; /* pipelined: one arrival */
        double due_at = schedule_count(schedule, r->due_ns);
        double sent_at = schedule_count(schedule, r->due_ns + r->late_ns);
        if (usable) {
            sent[gaps] = fabs(sent_at - sent_before); /* two threads may swap neighbours */
            due[gaps++] = due_at - due_before;
        }
        usable = true;
        sent_before = sent_at;
        due_before = due_at;
    }
    return gaps;
}

static void judge(struct arrivals_test *t, enum distribution distribution) {
    t->value = distribution == DISTRIBUTION_FIXED ? t->cv : fabs(t->cv - t->cv_asked);
    t->limit = distribution == DISTRIBUTION_FIXED ? FIXED_CV_MAX : CV_DIFFERENCE_MAX;
    if (t->value <= t->limit && distribution == DISTRIBUTION_EXP) {
        t->value = t->distance;
        t->limit = DISTANCE_MAX;
    }
    t->ok = t->value <= t->limit;
}

struct arrivals_test arrivals_test(const struct record *records, size_t count, const struct schedule *schedule,
                                   enum distribution distribution) {
    struct arrivals_test t = {0, NAN, NAN, NAN, NAN, true, NAN, NAN};
    size_t room = count < GAPS_MAX ? count : GAPS_MAX;
    double *sent = must_alloc(room + 1, sizeof *sent), *due = must_alloc(room + 1, sizeof *due);
    t.gaps = take_gaps(records, count, schedule, sent, due);
    if (t.gaps >= GAPS_MIN) {
        t.cv = trimmed_variation(sent, t.gaps);
        t.cv_asked = trimmed_variation(due, t.gaps);
        if (distribution == DISTRIBUTION_EXP) {
            t.anderson_darling = anderson_darling(sent, t.gaps);
            t.distance = fmax(0, t.anderson_darling - 1.0) / (double)t.gaps;
        }
        judge(&t, distribution);
    }
    free(sent);
    free(due);
    return t;
}

static void merge_parts(struct histogram *into, struct histogram *const parts[], int from, int to) {
    *into = (struct histogram){.min_us = UINT64_MAX};
    for (int i = from; i < to; i++) hist_merge(into, parts[i]);
}

/* Whether [middle, 10) differs from [from, middle), by Cliff's delta and by the median. */
static bool differ(struct histogram *const parts[], int from, int middle, double *delta, double *change) {
    struct histogram *earlier = must_alloc(1, sizeof *earlier), *later = must_alloc(1, sizeof *later);
    merge_parts(earlier, parts, from, middle);
    merge_parts(later, parts, middle, TREND_PARTS);
    double before = (double)hist_percentile(earlier, 50), after = (double)hist_percentile(later, 50);
    *delta = cliffs_delta(earlier, later);
    *change = before > 0 ? after / before - 1.0 : 0;
    free(earlier);
    free(later);
    return fabs(*delta) > DELTA_MAX && fabs(*change) > CHANGE_MAX;
}

/* Whether from this part on neither the halves differ nor the first part from the rest. */
static bool settled(struct histogram *const parts[], int from) {
    double delta, change;
    return !differ(parts, from, from + (TREND_PARTS - from) / 2, &delta, &change) &&
           !differ(parts, from, from + 1, &delta, &change);
}

static void look_at_parts(struct trend *t, struct histogram *const parts[]) {
    t->known = true;
    for (int i = 0; i < TREND_PARTS; i++) {
        t->medians_us[i] = parts[i]->count ? (int64_t)hist_percentile(parts[i], 50) : -1;
        t->known = t->known && parts[i]->count >= PART_MIN;
    }
    if (!t->known) return;
    differ(parts, 0, TREND_PARTS / 2, &t->delta, &t->change);
    int from = 0;
    while (from <= TREND_PARTS / 2 && !settled(parts, from)) from++;
    t->stationary = from == 0;
    t->settles = from <= TREND_PARTS / 2;
    t->warmup_missing_ns = t->settles ? (uint64_t)from * t->part_ns : 0;
}

struct trend trend_test(const struct record *records, size_t count, uint64_t duration_ns) {
    struct trend t = {.part_ns = duration_ns / TREND_PARTS + 1};
    struct histogram *parts[TREND_PARTS];
    for (int i = 0; i < TREND_PARTS; i++) {
        parts[i] = must_alloc(1, sizeof *parts[i]);
        parts[i]->min_us = UINT64_MAX;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t part = records[i].due_ns / t.part_ns;
        if (records[i].outcome == OUTCOME_SUCCESS && part < TREND_PARTS) hist_record(parts[part], record_latency_us(&records[i]));
    }
    look_at_parts(&t, parts);
    for (int i = 0; i < TREND_PARTS; i++) free(parts[i]);
    return t;
}
