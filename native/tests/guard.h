/* Memory that ends at a page without access: reading one byte too far kills the test. */
#ifndef AEFM_GUARD_H
#define AEFM_GUARD_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct guard {
    char *base;
    size_t room;
};

static inline struct guard guard_new(size_t room) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t rounded = (room + page - 1) / page * page;
    char *base = mmap(NULL, rounded + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + rounded, page, PROT_NONE) != 0) abort();
    return (struct guard){base, rounded};
}

/* Place `len` bytes so that the byte after the last one is out of bounds. */
static inline const char *guard_place(const struct guard *g, const char *data, size_t len) {
    return memcpy(g->base + g->room - len, data, len);
}

#endif
