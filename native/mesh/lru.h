/* A cache of keys that forgets the least recently used one. Keys are 64-bit; nothing but their presence is kept. */
#ifndef AEFM_MESH_LRU_H
#define AEFM_MESH_LRU_H

#include <stdbool.h>
#include <stdint.h>

#define LRU_CAPACITY_MAX (1u << 26)

struct lru;

/* Return an empty cache for 1 to LRU_CAPACITY_MAX keys. It takes memory as it fills. The caller frees. */
struct lru *lru_new(uint32_t capacity);
void lru_free(struct lru *lru);

/* Tell whether `key` is there; it is the most recently used one then. */
bool lru_touch(struct lru *lru, uint64_t key);

/* Put `key` there as the most recently used one. */
void lru_add(struct lru *lru, uint64_t key);

uint32_t lru_count(const struct lru *lru);

#endif
