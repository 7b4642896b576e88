#include "outcome.h"

#include <stdlib.h>

#include "buffer.h"
#include "clock.h"

const char *outcome_name(enum outcome outcome) {
    static const char *const names[OUTCOMES] = {
        "success",    "4xx",     "5xx",        "other_status",  "mismatch", "malformed",
        "read_error", "timeout", "unanswered", "connect_error", "unsent"};
    return names[outcome];
}

bool outcome_is_bound(enum outcome outcome) {
    return outcome == OUTCOME_TIMEOUT || outcome == OUTCOME_UNANSWERED || outcome == OUTCOME_UNSENT;
}

enum outcome outcome_of_status(int status, enum verdict verdict) {
    if (verdict != VERDICT_NONE) return verdict == VERDICT_TRUE ? OUTCOME_SUCCESS : OUTCOME_MISMATCH;
    if (status >= 200 && status < 400) return OUTCOME_SUCCESS;
    if (status >= 400 && status < 500) return OUTCOME_4XX;
    return status >= 500 && status < 600 ? OUTCOME_5XX : OUTCOME_OTHER_STATUS;
}

static struct histogram *made(struct histogram **h) {
    if (!*h) {
        *h = must_alloc(1, sizeof **h);
        (*h)->min_us = UINT64_MAX;
    }
    return *h;
}

void tally_value(struct histogram **h, uint64_t from_ns, uint64_t to_ns) {
    hist_record(made(h), to_ns > from_ns ? ns_to_us(to_ns - from_ns) : 0);
}

uint64_t tally_count(const struct tally *t, enum outcome outcome) {
    return t->latency[outcome] ? t->latency[outcome]->count : 0;
}

static uint64_t sum_over(const struct tally *t, enum outcome first, enum outcome last) {
    uint64_t sum = 0;
    for (int o = (int)first; o <= (int)last; o++) sum += tally_count(t, (enum outcome)o);
    return sum;
}

uint64_t tally_sum(const struct tally *t) { return sum_over(t, OUTCOME_SUCCESS, OUTCOME_UNSENT); }

uint64_t tally_sent(const struct tally *t) { return sum_over(t, OUTCOME_SUCCESS, OUTCOME_UNANSWERED); }

uint64_t tally_achieved(const struct tally *t) { return sum_over(t, OUTCOME_SUCCESS, OUTCOME_MISMATCH); }

static void merge_one(struct histogram **into, const struct histogram *from) {
    if (from) hist_merge(made(into), from);
}

void tally_merge(struct tally *into, const struct tally *from) {
    into->offered += from->offered;
    into->bytes_read += from->bytes_read;
    into->bytes_written += from->bytes_written;
    into->backlog_max += from->backlog_max;
    for (int o = 0; o < OUTCOMES; o++) merge_one(&into->latency[o], from->latency[o]);
    merge_one(&into->uncorrected, from->uncorrected);
    merge_one(&into->pacer_lag, from->pacer_lag);
    merge_one(&into->backlog, from->backlog);
}

void tally_free(struct tally *t) {
    for (int o = 0; o < OUTCOMES; o++) free(t->latency[o]);
    free(t->uncorrected);
    free(t->pacer_lag);
    free(t->backlog);
}
