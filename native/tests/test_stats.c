/* Statistics against tables, closed forms and brute force. */
#include <stdlib.h>

#include "check.h"
#include "random.h"
#include "stats.h"

static double exponential(uint64_t *random) { return -log(random_unit(random)); }

static void binomials_agree_with_their_sums(void) {
    static const struct { int n; double p; } table[] = {{1, 0.5}, {10, 0.99}, {59, 0.95}, {299, 0.99}, {500, 0.5}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        double sum = 0, n = table[i].n, p = table[i].p;
        for (int k = 0; k <= table[i].n; k++) {
            sum += exp(lgamma(n + 1) - lgamma(k + 1.0) - lgamma(n - k + 1) + k * log(p) + (n - k) * log1p(-p));
            CHECK_NEAR(sum, binomial_cdf(k, n, p), 1e-10);
        }
    }
    CHECK_NEAR(0.5, binomial_cdf(499999, 999999, 0.5), 1e-9);
    CHECK_NEAR(0, binomial_cdf(-1, 10, 0.5), 0);
}

static void ranks_hold_the_quantile_and_no_narrower_ones_do(void) {
    static const struct { uint64_t n; double quantile; uint64_t low, high; } table[] = {
        {10, 0.5, 2, 9}, {100, 0.5, 40, 61}, {5, 0.5, 0, 6}, {100, 0.99, 97, 101}, {1000, 0.99, 983, 997},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct rank_interval r = quantile_ranks(table[i].n, table[i].quantile, 0.95);
        CHECK_INT(table[i].low, r.low);
        CHECK_INT(table[i].high, r.high);
    }
    for (uint64_t n = 1; n < 3000; n = n * 3 / 2 + 1) {
        for (double q = 0.5; q < 0.9995; q += 0.0499) {
            struct rank_interval r = quantile_ranks(n, q, 0.95);
            double below = binomial_cdf((double)r.low - 1, (double)n, q);
            double above = 1 - binomial_cdf((double)r.high - 1, (double)n, q);
            CHECK(below <= 0.025 + 1e-12 && above <= 0.025 + 1e-12);
            CHECK(r.low <= n && r.high >= 1 && r.high <= n + 1);
            CHECK(r.low == n || binomial_cdf((double)r.low, (double)n, q) > 0.025 - 1e-12);
        }
    }
}

/* Geyer's sequence by its definition, for comparison. */
static double brute_force(const struct bits *b) {
    size_t n = b->count;
    double mean = 0, *x = calloc(n, sizeof *x), tau = -1, variance = 0;
    for (size_t i = 0; i < n; i++) mean += (x[i] = (double)(b->words[i / 64] >> (i % 64) & 1)) / (double)n;
    for (size_t i = 0; i < n; i++) variance += (x[i] - mean) * (x[i] - mean) / (double)n;
    for (size_t lag = 0; lag + 1 < n; lag += 2) {
        double pair = 0;
        for (size_t k = lag; k <= lag + 1; k++) {
            for (size_t i = 0; i + k < n; i++) pair += (x[i] - mean) * (x[i + k] - mean) / (double)n / variance;
        }
        if (pair <= 0) break;
        tau += 2 * pair;
    }
    free(x);
    return tau > 1 ? (double)n / tau : (double)n;
}

/* A two-state chain that stays with probability `stay`: 1 + 2 sum of rho = stay / (1 - stay). */
static struct bits chain(size_t n, double stay, uint64_t *random) {
    struct bits b = bits_new(n);
    bool state = false;
    for (size_t i = 0; i < n; i++) {
        if (random_unit(random) > stay) state = !state;
        if (state) bits_set(&b, i);
    }
    return b;
}

static void effective_sizes_agree_with_the_definition(void) {
    uint64_t random = 11;
    static const size_t lengths[] = {2, 3, 63, 64, 65, 127, 128, 500, 1999};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        for (double stay = 0.3; stay < 1; stay += 0.23) {
            struct bits b = chain(lengths[i], stay, &random);
            double size = effective_size(&b), expected = brute_force(&b);
            if (isfinite(expected)) CHECK_NEAR(expected, size, 1e-6 * expected);
            CHECK(size >= 1 && size <= (double)lengths[i]);
            bits_free(&b);
        }
    }
}

static void effective_sizes_of_chains_are_those_of_theory(void) {
    static const struct { double stay; size_t n; double tolerance; } table[] = {
        {0.5, 200000, 0.1}, {0.8, 200000, 0.1}, {0.99, 500000, 0.2}, {0.9995, 4000000, 0.4}};
    uint64_t random = 5;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct bits b = chain(table[i].n, table[i].stay, &random);
        double expected = (double)table[i].n * (1 - table[i].stay) / table[i].stay;
        CHECK_NEAR(1, effective_size(&b) / expected, table[i].tolerance);
        bits_free(&b);
    }
}

static void a_single_step_is_worth_next_to_nothing(void) {
    struct bits b = bits_new(100000);
    for (size_t i = 50000; i < 100000; i++) bits_set(&b, i);
    CHECK(effective_size(&b) < 20);
    bits_free(&b);
}

static void equal_ones_are_worth_their_number(void) {
    struct bits b = bits_new(1000);
    CHECK_NEAR(1000, effective_size(&b), 0);
    for (size_t i = 0; i < 1000; i++) bits_set(&b, i);
    CHECK_NEAR(1000, effective_size(&b), 0);
    bits_free(&b);
    struct bits none = bits_new(0);
    CHECK_NEAR(0, effective_size(&none), 0);
    bits_free(&none);
}

static void deltas_follow_the_table(void) {
    static const struct { uint64_t earlier[3], later[3]; double delta; } table[] = {
        {{1, 2, 3}, {4, 5, 6}, 1}, {{4, 5, 6}, {1, 2, 3}, -1}, {{1, 2, 3}, {1, 2, 3}, 0}, {{1, 5, 9}, {2, 6, 10}, 1.0 / 3},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct histogram *a = hist_new(), *b = hist_new();
        for (int k = 0; k < 3; k++) {
            hist_record(a, table[i].earlier[k]);
            hist_record(b, table[i].later[k]);
        }
        CHECK_NEAR(table[i].delta, cliffs_delta(a, b), 1e-12);
        free(a);
        free(b);
    }
}

/* A^2 of the exponential has mean 1 and exceeds 2.492 in 5 % of samples (Anderson and Darling 1954). */
static void anderson_darling_has_its_distribution(void) {
    uint64_t random = 3;
    double sum = 0, sample[400];
    int beyond = 0;
    for (int run = 0; run < 2000; run++) {
        for (int i = 0; i < 400; i++) sample[i] = exponential(&random);
        double a2 = anderson_darling(sample, 400);
        sum += a2;
        beyond += a2 > 2.492;
    }
    CHECK_NEAR(1.0, sum / 2000, 0.08);
    CHECK_NEAR(100, beyond, 35);
}

static void anderson_darling_sees_even_gaps(void) {
    double even[1000], erlang[1000];
    uint64_t random = 9;
    for (int i = 0; i < 1000; i++) {
        even[i] = 1;
        erlang[i] = (exponential(&random) + exponential(&random)) / 2;
    }
    CHECK(anderson_darling(even, 1000) / 1000 > 0.3);
    CHECK(anderson_darling(erlang, 1000) / 1000 > 0.03);
}

static void variation_of_the_exponential_is_one(void) {
    static double sample[100000];
    uint64_t random = 1;
    for (int i = 0; i < 100000; i++) sample[i] = 5 * exponential(&random);
    CHECK_NEAR(1, variation(sample, 100000), 0.02);
    CHECK(isnan(variation(sample, 1)));
}

int main(void) {
    binomials_agree_with_their_sums();
    ranks_hold_the_quantile_and_no_narrower_ones_do();
    effective_sizes_agree_with_the_definition();
    effective_sizes_of_chains_are_those_of_theory();
    a_single_step_is_worth_next_to_nothing();
    equal_ones_are_worth_their_number();
    deltas_follow_the_table();
    anderson_darling_has_its_distribution();
    anderson_darling_sees_even_gaps();
    variation_of_the_exponential_is_one();
    return check_result();
}
