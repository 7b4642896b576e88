/* Intended times: a FIFO of due requests and a heap of those that a script delayed. */
#ifndef AEFM_DUE_QUEUE_H
#define AEFM_DUE_QUEUE_H

#include <stddef.h>
#include <stdint.h>

/* First in, first out; a growing ring. Zero-initialised is empty. */
struct due_queue {
    uint64_t *times;
    size_t head, count, capacity;
};

void due_push(struct due_queue *q, uint64_t time_ns);
uint64_t due_at(const struct due_queue *q, size_t i); /* the i-th to be popped */
uint64_t due_pop(struct due_queue *q); /* not from an empty queue */
void due_free(struct due_queue *q);

/* Smallest first. Zero-initialised is empty. */
struct due_heap {
    uint64_t *times;
    size_t count, capacity;
};

void heap_push(struct due_heap *h, uint64_t time_ns);
uint64_t heap_pop(struct due_heap *h); /* not from an empty heap */
void heap_free(struct due_heap *h);

#endif
