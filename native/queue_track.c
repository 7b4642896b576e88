#include "queue_track.h"

#include <stdlib.h>

#include "buffer.h"
#include "clock.h"

#define SLOT_NS (125 * NS_PER_MS)
#define SLOTS_MIN 32u /* also in a short window */
#define SLOTS_MAX 1000000u

void queue_track_open(struct queue_track *q, uint64_t start_ns, uint64_t end_ns) {
    uint64_t length = end_ns - start_ns, slot = SLOT_NS;
    if (length / slot < SLOTS_MIN) slot = length / SLOTS_MIN + 1;
    if (length / slot >= SLOTS_MAX) slot = length / SLOTS_MAX + 1;
    *q = (struct queue_track){start_ns, end_ns, slot, (size_t)(length / slot) + 1, NULL, NULL};
    q->area_ns = must_alloc(q->slots, sizeof *q->area_ns);
    q->change = must_alloc(q->slots, sizeof *q->change);
}

void queue_track_free(struct queue_track *q) {
    free(q->area_ns);
    free(q->change);
}

static void note(struct queue_track *q, uint64_t time_ns, int sign) {
    uint64_t after = time_ns - q->start_ns, slot = after / q->slot_ns;
    q->change[slot] += sign;
    q->area_ns[slot] += sign * (double)((slot + 1) * q->slot_ns - after);
}

void queue_track_wait(struct queue_track *q, uint64_t from_ns, uint64_t to_ns) {
    if (from_ns < q->start_ns) from_ns = q->start_ns;
    if (to_ns > q->end_ns) to_ns = q->end_ns;
    if (from_ns >= to_ns) return;
    note(q, from_ns, 1);
    note(q, to_ns, -1);
}

void queue_track_merge(struct queue_track *into, const struct queue_track *from) {
    for (size_t i = 0; i < into->slots; i++) {
        into->area_ns[i] += from->area_ns[i];
        into->change[i] += from->change[i];
    }
}

double queue_track_mean(const struct queue_track *q, uint64_t from_ns, uint64_t to_ns) {
    double sum = 0, slot = (double)q->slot_ns;
    int64_t waiting = 0;
    if (to_ns <= from_ns) return 0;
    for (size_t i = 0; i < q->slots; i++) {
        uint64_t begin = q->start_ns + i * q->slot_ns, end = begin + q->slot_ns;
        if (end > q->end_ns) end = q->end_ns; /* no wait reaches beyond */
        uint64_t first = begin > from_ns ? begin : from_ns, last = end < to_ns ? end : to_ns;
        double inside = (double)waiting * slot + q->area_ns[i];
        if (last > first) sum += inside * (double)(last - first) / (double)(end - begin);
        waiting += q->change[i];
    }
    return sum / (double)(to_ns - from_ns);
}
