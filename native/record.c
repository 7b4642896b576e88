#include "record.h"

#include <stdlib.h>

#include "buffer.h"
#include "clock.h"

struct record record_make(uint64_t due_ns, uint64_t late_ns, uint64_t latency_ns, unsigned outcome, bool waited,
                          uint32_t tag) {
    return (struct record){.due_ns = due_ns & RECORD_LONGEST_NS, .outcome = outcome & 15, .waited = waited,
                           .tag = tag & 2047, .late_ns = late_ns, .latency_ns = latency_ns};
}

void record_set_bytes(struct record *r, uint64_t read, uint64_t written) {
    r->bytes_read = read < UINT32_MAX ? (uint32_t)read : UINT32_MAX;
    r->bytes_written = written < UINT32_MAX ? (uint32_t)written : UINT32_MAX;
}

uint32_t record_latency_us(const struct record *r) {
    uint64_t us = ns_to_us(r->latency_ns);
    return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
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

bool record_log_full(const struct record_log *log) { return record_count(log) >= log->room; }

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
