#include "record.h"

#include <stdlib.h>

#include "buffer.h"
#include "clock.h"

static uint32_t clamp(uint64_t value) { return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX; }

struct record record_make(uint64_t due_ns, uint64_t sent_after_ns, uint64_t end_after_ns, unsigned outcome, bool waited,
                          uint32_t tag) {
    return (struct record){.due_ns = due_ns & ((UINT64_C(1) << 48) - 1), .outcome = outcome & 15, .waited = waited,
                           .tag = tag & 2047, .late_ns = clamp(sent_after_ns), .latency_us = clamp(ns_to_us(end_after_ns))};
}

void record_add(struct record_log *log, struct record record) {
    size_t i = atomic_load_explicit(&log->count, memory_order_relaxed);
    if (i >= log->room) return;
    struct record **chunk = &log->chunks[i / RECORD_CHUNK];
    if (!*chunk) *chunk = must_alloc(RECORD_CHUNK, sizeof **chunk);
    (*chunk)[i % RECORD_CHUNK] = record;
    atomic_store_explicit(&log->count, i + 1, memory_order_release);
}

size_t record_count(const struct record_log *log) { return atomic_load_explicit(&log->count, memory_order_acquire); }

const struct record *record_at(const struct record_log *log, size_t i) {
    return &log->chunks[i / RECORD_CHUNK][i % RECORD_CHUNK];
}

void record_log_free(struct record_log *log) {
    for (size_t i = 0; i < RECORD_CHUNKS; i++) free(log->chunks[i]);
}

int record_order(const void *a, const void *b) {
    const struct record *x = a, *y = b;
    return (x->due_ns > y->due_ns) - (x->due_ns < y->due_ns);
}
