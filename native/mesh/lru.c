#include "mesh/lru.h"

#include <stdlib.h>

#include "buffer.h"

#define FIRST_ROOM 64u

/* Entry 0 is the ring's anchor: its `next` is the most, its `previous` the least recently used one. */
struct entry {
    uint64_t key;
    uint32_t previous, next; /* in the ring */
    uint32_t chained;        /* the next one in the same bucket, 0 at the end */
};

struct lru {
    uint32_t capacity, count, room; /* room: a power of two, as many buckets */
    struct entry *entries;          /* room + 1 */
    uint32_t *buckets;
};

static uint32_t bucket_of(const struct lru *lru, uint64_t key) {
    return (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (lru->room - 1);
}

static void chain(struct lru *lru, uint32_t at) {
    uint32_t *bucket = &lru->buckets[bucket_of(lru, lru->entries[at].key)];
    lru->entries[at].chained = *bucket;
    *bucket = at;
}

static void grow(struct lru *lru) {
    lru->room = lru->room ? lru->room * 2 : FIRST_ROOM;
    lru->entries = must_realloc(lru->entries, (size_t)lru->room + 1, sizeof *lru->entries);
    free(lru->buckets);
    lru->buckets = must_alloc(lru->room, sizeof *lru->buckets);
    for (uint32_t at = 1; at <= lru->count; at++) chain(lru, at);
}

struct lru *lru_new(uint32_t capacity) {
    struct lru *lru = must_alloc(1, sizeof *lru);
    lru->capacity = capacity;
    grow(lru);
    lru->entries[0] = (struct entry){0};
    return lru;
}

void lru_free(struct lru *lru) {
    if (!lru) return;
    free(lru->entries);
    free(lru->buckets);
    free(lru);
}

static void leave_ring(struct lru *lru, uint32_t at) {
    struct entry *e = &lru->entries[at];
    lru->entries[e->previous].next = e->next;
    lru->entries[e->next].previous = e->previous;
}

static void enter_ring(struct lru *lru, uint32_t at) {
    struct entry *e = &lru->entries[at], *anchor = &lru->entries[0];
    e->previous = 0;
    e->next = anchor->next;
    lru->entries[anchor->next].previous = at;
    anchor->next = at;
}

static void unchain(struct lru *lru, uint32_t at) {
    uint32_t *link = &lru->buckets[bucket_of(lru, lru->entries[at].key)];
    while (*link != at) link = &lru->entries[*link].chained;
    *link = lru->entries[at].chained;
}

bool lru_touch(struct lru *lru, uint64_t key) {
    uint32_t at = lru->buckets[bucket_of(lru, key)];
    while (at && lru->entries[at].key != key) at = lru->entries[at].chained;
    if (!at) return false;
    leave_ring(lru, at);
    enter_ring(lru, at);
    return true;
}

void lru_add(struct lru *lru, uint64_t key) {
    uint32_t at;
    if (lru_touch(lru, key)) return;
    if (lru->count < lru->capacity) {
        if (lru->count == lru->room) grow(lru);
        at = ++lru->count;
    } else {
        at = lru->entries[0].previous;
        leave_ring(lru, at);
        unchain(lru, at);
    }
    lru->entries[at].key = key;
    chain(lru, at);
    enter_ring(lru, at);
}

uint32_t lru_count(const struct lru *lru) { return lru->count; }
