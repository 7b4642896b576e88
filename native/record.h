/* One record of each request of the window, kept to its end: statistics need them in order of due times.
 *
 * A log has one writer, its worker; any thread may read what record_count() told of. Beyond its room it counts no more.
 */
#ifndef AEFM_RECORD_H
#define AEFM_RECORD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORDS_MAX ((size_t)16 << 20) /* of a run */
#define RECORD_CHUNK ((size_t)1 << 16)
#define RECORD_CHUNKS (RECORDS_MAX / RECORD_CHUNK)
#define RECORD_LONGEST_NS ((UINT64_C(1) << 48) - 1)

struct record {
    uint64_t due_ns : 48; /* since the window's start: up to three days, which is RECORD_LONGEST_NS */
    uint64_t outcome : 4;
    uint64_t waited : 1;  /* for a connection */
    uint64_t tag : 11;
    uint64_t late_ns;     /* from due to sent, or to when it was given up unsent */
    uint64_t latency_ns;  /* from due to the end, or to when it was given up */
    uint32_t bytes_read, bytes_written; /* at most UINT32_MAX */
};

struct record_log {
    struct record *chunks[RECORD_CHUNKS];
    size_t room;
    atomic_size_t count;
};

void record_add(struct record_log *log, struct record record);
struct record record_make(uint64_t due_ns, uint64_t late_ns, uint64_t latency_ns, unsigned outcome, bool waited,
                          uint32_t tag);

void record_set_bytes(struct record *r, uint64_t read, uint64_t written);

/* Return whether there is no room for more. */
bool record_log_full(const struct record_log *log);

/* Return the latency as the histograms hold it. */
uint32_t record_latency_us(const struct record *r);
size_t record_count(const struct record_log *log);
const struct record *record_at(const struct record_log *log, size_t i);
void record_log_free(struct record_log *log);

/* Order records by due times, for qsort(). */
int record_order(const void *a, const void *b);

#endif
