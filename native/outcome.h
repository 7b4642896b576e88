/* What became of each request of the window: exactly one outcome, in exactly one histogram. */
#ifndef AEFM_OUTCOME_H
#define AEFM_OUTCOME_H

#include <stdbool.h>

#include "histogram.h"

enum outcome {
    OUTCOME_SUCCESS,       /* 2xx, 3xx, or the script said true */
    OUTCOME_4XX,
    OUTCOME_5XX,
    OUTCOME_OTHER_STATUS,  /* 6xx to 9xx */
    OUTCOME_MISMATCH,      /* the script said false */
    OUTCOME_MALFORMED,     /* no valid HTTP */
    OUTCOME_READ_ERROR,    /* reset, or closed before the response was whole */
    OUTCOME_TIMEOUT,       /* lower bound */
    OUTCOME_UNANSWERED,    /* lower bound: in flight when the run was ended early */
    OUTCOME_CONNECT_ERROR, /* attempted, not sent */
    OUTCOME_UNSENT,        /* lower bound: still waited for a connection when the window ended */
    OUTCOMES
};

enum verdict { VERDICT_NONE, VERDICT_TRUE, VERDICT_FALSE }; /* what a script's response() returned */

struct tally {
    uint64_t offered; /* scheduled in the window: the sum of all outcomes */
    uint64_t bytes_read, bytes_written;
    struct histogram *latency[OUTCOMES]; /* NULL while there is none */
    struct histogram *uncorrected;       /* successes, from the actual send; NULL unless wanted */
    struct histogram *pacer_lag;
    struct histogram *backlog;
    uint64_t backlog_max;
};

const char *outcome_name(enum outcome outcome);

/* Tell those whose latency is a lower bound: it took at least that long. */
bool outcome_is_bound(enum outcome outcome);
enum outcome outcome_of_status(int status, enum verdict verdict);

/* Record into *h, which is made when first needed. */
void tally_value(struct histogram **h, uint64_t from_ns, uint64_t to_ns);

uint64_t tally_count(const struct tally *t, enum outcome outcome);
uint64_t tally_sum(const struct tally *t);      /* of all outcomes */
uint64_t tally_sent(const struct tally *t);     /* put on the wire */
uint64_t tally_achieved(const struct tally *t); /* completed with a whole response */

void tally_merge(struct tally *into, const struct tally *from);
void tally_free(struct tally *t);

#endif
