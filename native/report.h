/* The results of a run, and their two forms: wrk2's text and JSON (docs/aefm-wrk.md). */
#ifndef AEFM_REPORT_H
#define AEFM_REPORT_H

#include <stdio.h>

#include "net.h"
#include "observe.h"
#include "options.h"
#include "outcome.h"
#include "queue_track.h"
#include "record.h"
#include "sample.h"
#include "selftest.h"
#include "tagged.h"

#define REPORT_SCHEMA 2

#define CHECKS_MAX 8

struct check {
    const char *name, *unit;
    bool ok, warning; /* a warning does not make the run untrustworthy */
    double value, limit; /* NAN: not known, and fine */
    char message[192];
};

struct self_check {
    bool ok;
    size_t count;
    struct check checks[CHECKS_MAX];
    struct arrivals_test arrivals;
    struct trend trend;
};

struct report {
    const struct options *options;
    int argc;
    const char *const *argv;
    const struct addresses *targets;
    uint64_t seed;
    bool interrupted;
    enum ending ending;
    double abort_error_rate; /* what --abort-on has last seen */
    uint64_t window_start_ns; /* CLOCK_MONOTONIC */
    uint64_t duration_ns;     /* shorter than asked when the run was interrupted */
    uint64_t drain_ns;
    struct observation at_start, at_end; /* of the window */
    struct tally total;
    struct tag_names tags;
    struct tagged tagged; /* empty where nobody named a tag */
    uint64_t reached, reached_at_start, open_failures;
    uint64_t grown; /* connections opened beyond those asked for */
    struct record *records; /* in order of due times */
    size_t record_count;
    bool records_full; /* these are the first ones only */
    struct queue_track waiting;
    uint64_t *completed; /* responses in each second of the window */
    size_t seconds;
    struct self_check check;
    struct histogram *rates; /* completed requests in each whole second and thread */
};

/* Return when the window began, by the wall clock. */
int64_t report_start_wall_ns(const struct report *r);

void report_text(const struct report *r, FILE *to);
void report_json(const struct report *r, FILE *to);

/* Fill r->check: may these figures be trusted? */
void report_check_self(struct report *r);

/* Tell whether the backlog grew over the window. */
bool report_overloaded(const struct report *r);

/* Return what ended the window: duration, precision, abort, interrupt. */
const char *report_ending(const struct report *r);

/* Return the percentile that --precision is about. */
struct estimate report_precision(const struct report *r);

/* Tell whether offered equals the sum of all outcomes: a report where it does not must not leave the program. */
bool report_adds_up(const struct report *r);

/* --- parts of the JSON, for report_json.c --- */
struct json;

/* "percentiles" and "limits" of a tag, or of all (SAMPLE_ALL_TAGS). */
void put_percentiles(struct json *j, const struct report *r, uint32_t tag);

/* What --precision and --abort-on asked for, and what came of it. */
void put_precision(struct json *j, const struct report *r);
void put_abort(struct json *j, const struct report *r);

/* "arrivals", "trend", "self_check". */
void put_self_tests(struct json *j, const struct report *r);
void put_series(struct json *j, const struct report *r);

#endif
