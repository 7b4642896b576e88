/* The results of a run, and their two forms: wrk2's text and JSON (docs/aefm-wrk.md). */
#ifndef AEFM_REPORT_H
#define AEFM_REPORT_H

#include <stdio.h>

#include "observe.h"
#include "options.h"
#include "outcome.h"
#include "tagged.h"

#define REPORT_SCHEMA 2

struct report {
    const struct options *options;
    int argc;
    const char *const *argv;
    uint64_t seed;
    bool interrupted;
    uint64_t window_start_ns; /* CLOCK_MONOTONIC */
    uint64_t duration_ns;     /* shorter than asked when the run was interrupted */
    uint64_t drain_ns;
    struct observation at_start, at_end; /* of the window */
    struct tally total;
    struct tag_names tags;
    struct tagged tagged; /* empty where nobody named a tag */
    uint64_t reached, reached_at_start, open_failures;
    struct histogram *rates; /* completed requests in each whole second and thread */
};

void report_text(const struct report *r, FILE *to);
void report_json(const struct report *r, FILE *to);

/* Tell whether offered equals the sum of all outcomes: a report where it does not must not leave the program. */
bool report_adds_up(const struct report *r);

#endif
