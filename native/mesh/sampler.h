/* Random numbers and what is drawn from them: waits, ranks. One source per thread. */
#ifndef AEFM_MESH_SAMPLER_H
#define AEFM_MESH_SAMPLER_H

#include <stdint.h>

/* xoshiro256++ (Blackman and Vigna, 2019). */
struct rng {
    uint64_t state[4];
};

void rng_seed(struct rng *rng, uint64_t seed);
uint64_t rng_next(struct rng *rng);
double rng_unit(struct rng *rng); /* evenly from [0, 1) */

enum wait_kind { WAIT_CONSTANT, WAIT_UNIFORM, WAIT_EXPONENTIAL, WAIT_LOGNORMAL, WAIT_PARETO, WAIT_EMPIRICAL };

/* A distribution of waits, in ms: constant(a), uniform [a, b], exponential of mean a, log-normal of median a and
 * sigma b, Pareto of minimum a and shape b, or quantiles, evenly spaced from 0 to 1. */
struct wait {
    enum wait_kind kind;
    double a, b;
    double *quantiles_ms;
    uint32_t count; /* of quantiles: at least 2 */
};

/* Draw a wait in ns; at most a day. */
uint64_t wait_draw_ns(const struct wait *wait, struct rng *rng);

/* Ranks 1..count with probability ~ rank^-skew, drawn by rejection-inversion (Hoermann and Derflinger, 1996). */
struct zipf {
    uint64_t count;
    double skew, low, high, accept;
};

struct zipf zipf_new(uint64_t count, double skew);
uint64_t zipf_draw(const struct zipf *zipf, struct rng *rng);

#endif
