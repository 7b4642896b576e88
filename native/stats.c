#include "stats.h"

#include <math.h>
#include <stdlib.h>

#include "buffer.h"

#define BETA_STEPS 10000
#define BETA_PRECISION 1e-14
#define BLOCKS 4096u

/* The continued fraction of the incomplete beta function (Abramowitz and Stegun 26.5.8), by Lentz's method. */
static double beta_fraction(double a, double b, double x) {
    const double tiny = 1e-300;
    double c = 1.0, d = 1.0 - (a + b) * x / (a + 1.0);
    d = 1.0 / (fabs(d) < tiny ? tiny : d);
    double sum = d;
    for (int m = 1; m < BETA_STEPS; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        for (int half = 0; half < 2; half++) {
            double term = half ? odd : even;
            d = 1.0 + term * d;
            d = 1.0 / (fabs(d) < tiny ? tiny : d);
            c = 1.0 + term / c;
            if (fabs(c) < tiny) c = tiny;
            sum *= d * c;
        }
        if (fabs(d * c - 1.0) < BETA_PRECISION) break;
    }
    return sum;
}

/* I_x(a, b), regularised. */
static double incomplete_beta(double a, double b, double x) {
    if (x <= 0.0) return 0.0;
    if (x >= 1.0) return 1.0;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1.0) / (a + b + 2.0)) return front * beta_fraction(a, b, x) / a;
    return 1.0 - front * beta_fraction(b, a, 1.0 - x) / b;
}

double binomial_cdf(double k, double n, double p) {
    if (k < 0) return 0.0;
    if (k >= n) return 1.0;
    return incomplete_beta(n - k, k + 1.0, 1.0 - p);
}

/* The smallest k in [0, n] with P(X <= k) >= level. */
static uint64_t binomial_quantile(double level, uint64_t n, double p) {
    uint64_t low = 0, high = n;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (binomial_cdf((double)middle, (double)n, p) >= level) high = middle;
        else low = middle + 1;
    }
    return low;
}

struct rank_interval quantile_ranks(uint64_t n, double quantile, double confidence) {
    double tail = (1.0 - confidence) / 2.0;
    /* P(X < low) <= tail and P(X >= high) <= tail, X the number of values below the quantile. */
    uint64_t low = binomial_quantile(tail, n, quantile);
    if (binomial_cdf((double)low, (double)n, quantile) <= tail) low++;
    return (struct rank_interval){low, binomial_quantile(1.0 - tail, n, quantile) + 1};
}

struct bits bits_new(size_t count) {
    return (struct bits){must_alloc(count / 64 + 1, sizeof(uint64_t)), count};
}

void bits_free(struct bits *b) { free(b->words); }

static bool bit(const struct bits *b, size_t i) { return b->words[i / 64] >> (i % 64) & 1; }

/* How often bit i and bit i + lag are both set. */
static uint64_t both_set(const struct bits *b, size_t lag) {
    size_t words = b->count / 64 + 1, skip = lag / 64, shift = lag % 64;
    uint64_t sum = 0;
    for (size_t i = 0; i + skip < words; i++) {
        uint64_t later = b->words[i + skip] >> shift;
        if (shift && i + skip + 1 < words) later |= b->words[i + skip + 1] << (64 - shift);
        sum += (uint64_t)__builtin_popcountll(b->words[i] & later);
    }
    return sum;
}

/* The sum of autocovariances (each over n, about the mean), 1 + 2 sum of rho times the variance, over the initial
 * positive sequence; *complete says whether that ended before `lags`. */
static double positive_sequence(double (*covariance)(const void *, size_t), const void *of, size_t lags, bool *complete) {
    double sum = -covariance(of, 0);
    *complete = false;
    for (size_t lag = 0; lag + 1 < lags; lag += 2) {
        double pair = covariance(of, lag) + covariance(of, lag + 1);
        if (pair <= 0) {
            *complete = true;
            break;
        }
        sum += 2.0 * pair;
    }
    return sum;
}

struct indicator {
    const struct bits *bits;
    double mean;
    uint32_t head[STATS_LAGS + 1], tail[STATS_LAGS + 1]; /* how many of the first and last k are set */
};

static double indicator_covariance(const void *of, size_t lag) {
    const struct indicator *s = of;
    double n = (double)s->bits->count, all = s->mean * n, pairs = n - (double)lag;
    double firsts = all - s->tail[lag], lasts = all - s->head[lag];
    return ((double)both_set(s->bits, lag) - s->mean * (firsts + lasts) + pairs * s->mean * s->mean) / n;
}

struct block_sums {
    double values[BLOCKS]; /* less their mean */
    size_t count;
};

static double block_covariance(const void *of, size_t lag) {
    const struct block_sums *s = of;
    double sum = 0;
    for (size_t i = 0; i + lag < s->count; i++) sum += s->values[i] * s->values[i + lag];
    return sum / (double)s->count;
}

/* The long-run variance of the sequence from sums over blocks, which takes in what lasts for many blocks. */
static double variance_by_blocks(const struct bits *b, double mean) {
    struct block_sums *s = must_alloc(1, sizeof *s);
    size_t length = (b->count + BLOCKS - 1) / BLOCKS;
    bool complete;
    for (; s->count < BLOCKS && (s->count + 1) * length <= b->count; s->count++) {
        for (size_t i = 0; i < length; i++) s->values[s->count] += bit(b, s->count * length + i);
        s->values[s->count] -= mean * (double)length;
    }
    double variance = positive_sequence(block_covariance, s, s->count, &complete) / (double)length;
    free(s);
    return variance;
}

double effective_size(const struct bits *b) {
    double n = (double)b->count, variance;
    size_t lags = b->count < STATS_LAGS ? b->count : STATS_LAGS;
    struct indicator *s = must_alloc(1, sizeof *s);
    bool complete = true;
    s->bits = b;
    s->mean = b->count ? (double)both_set(b, 0) / n : 0;
    double own = s->mean * (1.0 - s->mean);
    for (size_t k = 0; k < lags; k++) {
        s->head[k + 1] = s->head[k] + bit(b, k);
        s->tail[k + 1] = s->tail[k] + bit(b, b->count - 1 - k);
    }
    variance = own > 0 ? positive_sequence(indicator_covariance, s, lags, &complete) : 0;
    if (own > 0 && !complete && b->count > STATS_LAGS) variance = variance_by_blocks(b, s->mean);
    free(s);
    if (!(own > 0) || variance <= own) return n;
    double size = n * own / variance;
    return size > 1.0 ? size : 1.0;
}

double cliffs_delta(const struct histogram *earlier, const struct histogram *later) {
    double larger = 0, smaller = 0, earlier_below = 0, later_below = 0;
    if (!earlier->count || !later->count) return 0;
    for (uint32_t i = 0; i < HIST_CELLS; i++) {
        larger += (double)later->cells[i] * earlier_below;
        smaller += (double)earlier->cells[i] * later_below;
        earlier_below += (double)earlier->cells[i];
        later_below += (double)later->cells[i];
    }
    return (larger - smaller) / ((double)earlier->count * (double)later->count);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double anderson_darling(double *sample, size_t count) {
    double sum = 0, n = (double)count;
    qsort(sample, count, sizeof *sample, by_value);
    for (size_t i = 0; i < count; i++) {
        double low = sample[i] > 1e-12 ? sample[i] : 1e-12; /* a gap of 0 ns has a probability, too */
        sum += (2.0 * (double)i + 1.0) * (log(-expm1(-low)) - sample[count - 1 - i]);
    }
    return -n - sum / n;
}

double variation(const double *sample, size_t count) {
    double sum = 0, squares = 0, n = (double)count;
    if (count < 2) return NAN;
    for (size_t i = 0; i < count; i++) sum += sample[i];
    double mean = sum / n;
    for (size_t i = 0; i < count; i++) squares += (sample[i] - mean) * (sample[i] - mean);
    return sqrt(squares / (n - 1)) / mean;
}
