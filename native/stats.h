/* Statistics of a run: how much a percentile can be trusted, and whether arrivals are those asked for. Pure. */
#ifndef AEFM_STATS_H
#define AEFM_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"

/* Return P(X <= k) for X ~ Binomial(n, p), by the incomplete beta function (Abramowitz and Stegun 26.5.24). */
double binomial_cdf(double k, double n, double p);

/* The order statistics between which a quantile of a distribution lies with `confidence`, of a sample of n. */
struct rank_interval {
    uint64_t low;  /* from 1; 0: the sample bounds it by nothing from below */
    uint64_t high; /* to n; n + 1: by nothing from above */
};
struct rank_interval quantile_ranks(uint64_t n, double quantile, double confidence);

/* A sequence of yes and no, 64 to a word, lowest bit first; unused bits are 0. */
struct bits {
    uint64_t *words;
    size_t count;
};

struct bits bits_new(size_t count);
static inline void bits_set(struct bits *b, size_t i) { b->words[i / 64] |= UINT64_C(1) << (i % 64); }
void bits_free(struct bits *b);

/* Return how many independent observations the sequence is worth, from 1 to its length: n / (1 + 2 sum of rho), over
 * the initial positive sequence (Geyer 1992, section 3.3): sums of two neighbouring autocorrelations, from lag 0 on, as
 * long as they are positive. n where all are equal. Correlations beyond STATS_LAGS are summed over blocks. */
double effective_size(const struct bits *b);
#define STATS_LAGS 2048u

/* Return Cliff's delta, -1 to 1: the chance that a value of `later` is larger than one of `earlier`, less that it is
 * smaller; 0 where one is empty. */
double cliffs_delta(const struct histogram *earlier, const struct histogram *later);

/* Return Anderson and Darling's A^2 (1952) of a sample against the exponential distribution of mean 1. Sorts it. */
double anderson_darling(double *sample, size_t count);

/* Return the coefficient of variation, NAN where fewer than two. */
double variation(const double *sample, size_t count);

#endif
