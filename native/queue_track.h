/* How many requests waited for a connection over the window. Constant work for each wait, however long. */
#ifndef AEFM_QUEUE_TRACK_H
#define AEFM_QUEUE_TRACK_H

#include <stddef.h>
#include <stdint.h>

/* Time is cut in slots; a wait is noted where it begins and where it ends. */
struct queue_track {
    uint64_t start_ns, end_ns, slot_ns;
    size_t slots;
    double *area_ns; /* of waits that begin or end in the slot: their part of it */
    int64_t *change; /* how many more wait at the slot's end than at its start */
};

void queue_track_open(struct queue_track *q, uint64_t start_ns, uint64_t end_ns);
void queue_track_free(struct queue_track *q);

/* A wait over [from, to), of which the part in the window counts. */
void queue_track_wait(struct queue_track *q, uint64_t from_ns, uint64_t to_ns);

/* Add another of the same window. */
void queue_track_merge(struct queue_track *into, const struct queue_track *from);

/* Return the mean number that waited over [from, to); slots that are cut count by their share. */
double queue_track_mean(const struct queue_track *q, uint64_t from_ns, uint64_t to_ns);

#endif
