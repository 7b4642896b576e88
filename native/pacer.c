#include "pacer.h"

#include <math.h>
#include <string.h>

#include "random.h"

#define NORM_DEVIATION 0.25
#define ZIPF_MAX 100
#define ZIPF_EXPONENT 3.0

static const char *const names[DISTRIBUTIONS] = {"fixed", "exp", "norm", "zipf"};

const char *distribution_name(enum distribution distribution) { return names[distribution]; }

enum distribution distribution_named(const char *name) {
    int d = 0;
    while (d < DISTRIBUTIONS && strcmp(names[d], name) != 0) d++;
    return (enum distribution)d;
}

struct pacer pacer_make(const struct schedule *schedule, enum distribution distribution, uint64_t seed,
                        uint64_t start_ns, uint32_t thread, uint32_t threads) {
    struct pacer p = {.schedule = schedule, .distribution = distribution, .start_ns = start_ns, .thread = thread,
                      .threads = threads, .random = seed};
    double sum = 0, weighted = 0;
    for (int k = 1; k <= ZIPF_MAX; k++) {
        sum += pow(k, -ZIPF_EXPONENT);
        weighted += k * pow(k, -ZIPF_EXPONENT);
    }
    p.zipf_scale = 1.0 / sum;
    p.zipf_unit = sum / weighted;
    return p;
}

/* Marsaglia's polar method. */
static double normal(uint64_t *random) {
    double u, v, square;
    do {
        u = 2.0 * random_unit(random) - 1.0;
        v = 2.0 * random_unit(random) - 1.0;
        square = u * u + v * v;
    } while (square >= 1.0 || square == 0.0);
    return u * sqrt(-2.0 * log(square) / square);
}

static double zipf(struct pacer *p) {
    double left = random_unit(&p->random);
    int k = 0;
    do {
        k++;
        left -= p->zipf_scale * pow(k, -ZIPF_EXPONENT);
    } while (left > 0 && k < ZIPF_MAX);
    return k * p->zipf_unit;
}

static double gap(struct pacer *p) {
    double value;
    switch (p->distribution) {
    case DISTRIBUTION_EXP:
        return -log(random_unit(&p->random));
    case DISTRIBUTION_NORM:
        do value = 1.0 + NORM_DEVIATION * normal(&p->random);
        while (value <= 0);
        return value;
    case DISTRIBUTION_ZIPF:
        return zipf(p);
    default:
        return 1.0;
    }
}

uint64_t pacer_next(struct pacer *p) {
    if (p->distribution == DISTRIBUTION_FIXED) {
        /* Multiplied, not summed: no rounding error grows. */
        p->requests = (double)p->thread + (double)p->slot * (double)p->threads;
    } else {
        for (uint32_t n = p->slot ? p->threads : p->thread + 1; n; n--) p->requests += gap(p);
    }
    p->slot++;
    return p->start_ns + schedule_time(p->schedule, p->requests);
}

uint32_t pacer_share(uint32_t total, uint32_t index, uint32_t parts) {
    return total / parts + (index < total % parts ? 1 : 0);
}
