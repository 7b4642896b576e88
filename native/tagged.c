#include "tagged.h"

#include <stdlib.h>
#include <string.h>

#include "buffer.h"

struct tally *tagged_tally(struct tagged *t, uint32_t tag) {
    if (tag >= t->count) {
        t->tallies = must_realloc(t->tallies, tag + 1, sizeof *t->tallies);
        memset(&t->tallies[t->count], 0, (tag + 1 - t->count) * sizeof *t->tallies);
        t->count = tag + 1;
    }
    return &t->tallies[tag];
}

void tagged_merge(struct tagged *into, struct tag_names *names, const struct tagged *from,
                  const struct tag_names *from_names) {
    for (uint32_t i = 0; i <= from_names->count; i++) {
        const char *name = tag_name(from_names, i);
        uint32_t number = tag_number(names, name, strlen(name));
        if (number == TAG_BAD) number = TAG_NONE; /* the threads' names together are too many */
        struct tally *to = tagged_tally(into, number);
        if (i < from->count) tally_merge(to, &from->tallies[i]);
    }
}

void tagged_free(struct tagged *t) {
    for (uint32_t i = 0; i < t->count; i++) tally_free(&t->tallies[i]);
    free(t->tallies);
    *t = (struct tagged){0};
}
