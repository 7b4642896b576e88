#include "pacer.h"

#include <math.h>

/* A century: later than any run ends, and far from where additions overflow. */
#define FAR_NS 3.2e18

struct pacer pacer_make(uint64_t start_ns, double rate_rps, uint32_t thread, uint32_t threads) {
    return (struct pacer){
        .start_ns = start_ns, .period_ns = 1e9 / rate_rps, .thread = thread, .threads = threads};
}

uint64_t pacer_time(const struct pacer *p, uint64_t slot) {
    double request = (double)p->thread + (double)slot * (double)p->threads;
    double offset = nearbyint(request * p->period_ns);
    return p->start_ns + (offset < FAR_NS ? (uint64_t)offset : (uint64_t)FAR_NS);
}

uint64_t pacer_slots_before(const struct pacer *p, uint64_t time_ns) {
    if (time_ns <= pacer_time(p, 0)) return 0;
    double requests = (double)(time_ns - p->start_ns) / p->period_ns;
    double guess = (requests - (double)p->thread) / (double)p->threads;
    uint64_t slot = guess > 1.0 ? (uint64_t)guess - 1 : 0;
    /* The guess may be off by rounding: settle on the definition. */
    while (slot > 0 && pacer_time(p, slot - 1) >= time_ns) slot--;
    while (pacer_time(p, slot) < time_ns) slot++;
    return slot;
}

uint32_t pacer_share(uint32_t total, uint32_t index, uint32_t parts) {
    return total / parts + (index < total % parts ? 1 : 0);
}
