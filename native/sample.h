/* Latencies in order of due times, some known as lower bounds only: percentiles as intervals, and limits. Pure. */
#ifndef AEFM_SAMPLE_H
#define AEFM_SAMPLE_H

#include "record.h"

#define SAMPLE_ALL_TAGS UINT32_MAX
#define SAMPLE_CONFIDENCE 0.95
#define SAMPLE_NONE INT64_C(-1) /* not bounded on that side */

struct sample {
    size_t count, lower_bounds;
    uint32_t *values;    /* us, in order of due times */
    bool *is_bound;
    uint32_t *ascending; /* all values */
    uint32_t *known;     /* those that are no bounds, ascending */
};

struct estimate {
    double percentile;
    int64_t value_us, value_high_us; /* if lower bounds are as they say, and if they are without end */
    int64_t low_us, high_us;         /* with SAMPLE_CONFIDENCE */
    double n_eff;
};

struct exceedance {
    uint64_t limit_us;
    size_t above, undecided; /* lower bounds not above the limit may be */
    double n_eff;
};

/* Take the successes, and what has a lower bound, from records in order of due times. */
struct sample sample_take(const struct record *records, size_t count, uint32_t tag);
void sample_free(struct sample *s);

struct estimate sample_percentile(const struct sample *s, double percentile);
struct exceedance sample_limit(const struct sample *s, uint64_t limit_us);

/* Return how wide the interval is, as a share of the value; NAN where it is not bounded. */
double estimate_width(const struct estimate *e);

#endif
