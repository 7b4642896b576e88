#include "due_queue.h"

#include <stdlib.h>
#include <string.h>

#include "buffer.h"

#define FIRST_CAPACITY 1024u

void due_push(struct due_queue *q, uint64_t time_ns) {
    if (q->count == q->capacity) {
        size_t old = q->capacity, wrapped = q->head;
        q->capacity = old ? old * 2 : FIRST_CAPACITY;
        q->times = must_realloc(q->times, q->capacity, sizeof *q->times);
        /* The part before the head comes after the old end. */
        if (old) memcpy(q->times + old, q->times, wrapped * sizeof *q->times);
    }
    q->times[(q->head + q->count++) & (q->capacity - 1)] = time_ns;
}

uint64_t due_at(const struct due_queue *q, size_t i) { return q->times[(q->head + i) & (q->capacity - 1)]; }

uint64_t due_pop(struct due_queue *q) {
    uint64_t time = q->times[q->head];
    q->head = (q->head + 1) & (q->capacity - 1);
    q->count--;
    return time;
}

void due_free(struct due_queue *q) { free(q->times); }

void heap_push(struct due_heap *h, uint64_t time_ns) {
    if (h->count == h->capacity) {
        h->capacity = h->capacity ? h->capacity * 2 : FIRST_CAPACITY;
        h->times = must_realloc(h->times, h->capacity, sizeof *h->times);
    }
    size_t at = h->count++;
    while (at > 0 && h->times[(at - 1) / 2] > time_ns) {
        h->times[at] = h->times[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    h->times[at] = time_ns;
}

uint64_t heap_pop(struct due_heap *h) {
    uint64_t top = h->times[0], last = h->times[--h->count];
    size_t at = 0;
    for (size_t child = 1; child < h->count; child = 2 * at + 1) {
        if (child + 1 < h->count && h->times[child + 1] < h->times[child]) child++;
        if (h->times[child] >= last) break;
        h->times[at] = h->times[child];
        at = child;
    }
    h->times[at] = last;
    return top;
}

void heap_free(struct due_heap *h) { free(h->times); }
