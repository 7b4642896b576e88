/* --precision: when is a percentile known well enough? Pure.
 *
 * Whoever looks all the time and stops at the first narrow interval stops at lucky ones: their coverage suffers. So there
 * are looks at PRECISION_FIRST_NS of the window and at doubles of that only, each at all requests that were due by then.
 */
#ifndef AEFM_PRECISION_H
#define AEFM_PRECISION_H

#include "sample.h"
#include "selftest.h"

#define PRECISION_FIRST_NS UINT64_C(1000000000)

struct precision_rule {
    double percentile; /* 0: none is asked for */
    double share;      /* how wide the interval may be, of the percentile's value */
};

/* Parse "p99:5%". Return NULL, or what was expected (static text). */
const char *precision_parse(const char *text, struct precision_rule *rule);

/* Return the time of the first look after `time_ns` of the window. */
uint64_t precision_next_look(uint64_t time_ns);

/* Return whether these requests, all that were due in [0, duration_ns) and in that order, know the percentile well
 * enough. A window with a trend, or at whose end more than a hundredth wait, has no percentile that could be known. */
bool precision_reached(const struct precision_rule *rule, const struct record *records, size_t count,
                       uint64_t duration_ns);

#endif
