#include "mesh/sampler.h"

#include <math.h>

#define LONGEST_MS 86400e3

void rng_seed(struct rng *rng, uint64_t seed) {
    for (int i = 0; i < 4; i++) { /* splitmix64 */
        uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        rng->state[i] = z ^ z >> 31;
    }
}

static uint64_t rotate(uint64_t x, int k) { return x << k | x >> (64 - k); }

uint64_t rng_next(struct rng *rng) {
    uint64_t *s = rng->state, result = rotate(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

double rng_unit(struct rng *rng) { return (double)(rng_next(rng) >> 11) * 0x1p-53; }

static double draw_normal(struct rng *rng) { /* Box and Muller (1958) */
    double radius = sqrt(-2.0 * log1p(-rng_unit(rng)));
    return radius * cos(6.283185307179586 * rng_unit(rng));
}

static double draw_empirical_ms(const struct wait *wait, struct rng *rng) {
    double at = rng_unit(rng) * (wait->count - 1);
    uint32_t cell = (uint32_t)at;
    double low = wait->quantiles_ms[cell], high = wait->quantiles_ms[cell + 1];
    return low + (high - low) * (at - cell);
}

static double draw_ms(const struct wait *wait, struct rng *rng) {
    switch (wait->kind) {
    case WAIT_UNIFORM:
        return wait->a + (wait->b - wait->a) * rng_unit(rng);
    case WAIT_EXPONENTIAL:
        return -wait->a * log1p(-rng_unit(rng));
    case WAIT_LOGNORMAL:
        return wait->a * exp(wait->b * draw_normal(rng));
    case WAIT_PARETO:
        return wait->a * pow(1.0 - rng_unit(rng), -1.0 / wait->b);
    case WAIT_EMPIRICAL:
        return draw_empirical_ms(wait, rng);
    default:
        return wait->a;
    }
}

uint64_t wait_draw_ns(const struct wait *wait, struct rng *rng) {
    double ms = draw_ms(wait, rng);
    return (uint64_t)((ms < LONGEST_MS ? ms : LONGEST_MS) * 1e6);
}

/* The integral of x^-skew, and its inverse. */
static double integral(double x, double skew) {
    double log_x = log(x), t = (1.0 - skew) * log_x;
    return fabs(t) > 1e-8 ? expm1(t) / t * log_x : log_x * (1.0 + t / 2);
}

static double inverse(double y, double skew) {
    double t = y * (1.0 - skew);
    if (t < -1.0) t = -1.0;
    return exp(fabs(t) > 1e-8 ? log1p(t) / t * y : y * (1.0 - t / 2));
}

struct zipf zipf_new(uint64_t count, double skew) {
    struct zipf zipf = {.count = count, .skew = skew};
    zipf.low = integral(1.5, skew) - 1.0;
    zipf.high = integral((double)count + 0.5, skew);
    zipf.accept = 2.0 - inverse(integral(2.5, skew) - pow(2.0, -skew), skew);
    return zipf;
}

uint64_t zipf_draw(const struct zipf *zipf, struct rng *rng) {
    for (;;) {
        double y = zipf->high + rng_unit(rng) * (zipf->low - zipf->high);
        double x = inverse(y, zipf->skew), rank = floor(x + 0.5);
        if (rank < 1.0) rank = 1.0;
        if (rank > (double)zipf->count) rank = (double)zipf->count;
        if (rank - x <= zipf->accept || y >= integral(rank + 0.5, zipf->skew) - pow(rank, -zipf->skew)) {
            return (uint64_t)rank;
        }
    }
}
