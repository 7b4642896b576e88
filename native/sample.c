#include "sample.h"

#include <math.h>
#include <stdlib.h>

#include "buffer.h"
#include "outcome.h"
#include "stats.h"

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

struct sample sample_take(const struct record *records, size_t count, uint32_t tag) {
    struct sample s = {.values = must_alloc(count + 1, sizeof *s.values), .is_bound = must_alloc(count + 1, sizeof *s.is_bound),
                       .ascending = must_alloc(count + 1, sizeof *s.ascending), .known = must_alloc(count + 1, sizeof *s.known)};
    size_t known = 0;
    for (size_t i = 0; i < count; i++) {
        const struct record *r = &records[i];
        bool is_bound = outcome_is_bound((enum outcome)r->outcome);
        if ((!is_bound && r->outcome != OUTCOME_SUCCESS) || (tag != SAMPLE_ALL_TAGS && r->tag != tag)) continue;
        s.values[s.count] = s.ascending[s.count] = record_latency_us(r);
        s.is_bound[s.count++] = is_bound;
        s.lower_bounds += is_bound;
        if (!is_bound) s.known[known++] = record_latency_us(r);
    }
    qsort(s.ascending, s.count, sizeof *s.ascending, ascending);
    qsort(s.known, known, sizeof *s.known, ascending);
    return s;
}

void sample_free(struct sample *s) {
    free(s->values);
    free(s->is_bound);
    free(s->ascending);
    free(s->known);
}

/* How many independent observations "slower than this" is worth; a bound may always be slower. */
static double size_at(const struct sample *s, uint64_t limit_us) {
    struct bits above = bits_new(s->count);
    for (size_t i = 0; i < s->count; i++) {
        if (s->is_bound[i] || s->values[i] > limit_us) bits_set(&above, i);
    }
    double size = effective_size(&above);
    bits_free(&above);
    return size;
}

/* The value of a rank from 1 on, with bounds as they are, or without end. */
static int64_t at_rank(const struct sample *s, double rank, bool endless) {
    if (rank < 1 || rank > (double)(endless ? s->count - s->lower_bounds : s->count)) return SAMPLE_NONE;
    return (endless ? s->known : s->ascending)[(size_t)rank - 1];
}

struct estimate sample_percentile(const struct sample *s, double percentile) {
    struct estimate e = {percentile, SAMPLE_NONE, SAMPLE_NONE, SAMPLE_NONE, SAMPLE_NONE, 0};
    if (s->count == 0) return e;
    double n = (double)s->count, rank = ceil(percentile * n / 100.0 - 1e-9 * n);
    e.value_us = at_rank(s, fmax(1, rank), false);
    e.value_high_us = at_rank(s, fmax(1, rank), true);
    e.n_eff = size_at(s, (uint64_t)e.value_us);
    uint64_t worth = (uint64_t)e.n_eff;
    struct rank_interval ranks = quantile_ranks(worth, percentile / 100.0, SAMPLE_CONFIDENCE);
    /* The ranks of a sample of n_eff, among n: outwards, where they fall between two. */
    double stretch = n / (double)worth;
    e.low_us = at_rank(s, ranks.low ? fmax(1, floor((double)ranks.low * stretch)) : 0, false);
    if (ranks.high <= worth) e.high_us = at_rank(s, fmin(n, ceil((double)ranks.high * stretch)), true);
    return e;
}

struct exceedance sample_limit(const struct sample *s, uint64_t limit_us) {
    struct exceedance e = {.limit_us = limit_us, .n_eff = s->count ? size_at(s, limit_us) : 0};
    for (size_t i = 0; i < s->count; i++) {
        if (s->values[i] > limit_us) e.above++;
        else if (s->is_bound[i]) e.undecided++;
    }
    return e;
}

double estimate_width(const struct estimate *e) {
    if (e->low_us == SAMPLE_NONE || e->high_us == SAMPLE_NONE || e->value_us <= 0) return NAN;
    return (double)(e->high_us - e->low_us) / (double)e->value_us;
}
