/* Random numbers that a seed reproduces: splitmix64 (Steele, Lea, Flood 2014). The state is the caller's. */
#ifndef AEFM_RANDOM_H
#define AEFM_RANDOM_H

#include <stdint.h>

static inline uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Neighbouring seeds and streams get unrelated states. */
static inline uint64_t random_mix(uint64_t seed, uint64_t stream) {
    uint64_t state = seed + stream * UINT64_C(0x9e3779b97f4a7c15);
    return random_next(&state);
}

/* Above 0, below 1. */
static inline double random_unit(uint64_t *state) { return ((double)(random_next(state) >> 11) + 0.5) * 0x1p-53; }

#endif
