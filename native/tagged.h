/* Outcomes by tag: one tally for each tag that occurred. */
#ifndef AEFM_TAGGED_H
#define AEFM_TAGGED_H

#include "outcome.h"
#include "tags.h"

/* Zero-initialised is empty. */
struct tagged {
    struct tally *tallies; /* by the tag's number */
    uint32_t count;
};

/* Return the tally of a tag, which is made when first asked for. It is valid until the next call. */
struct tally *tagged_tally(struct tagged *t, uint32_t tag);

/* Add all of a thread's tags to those of the run, by name; tags that were named but never used are there, too. */
void tagged_merge(struct tagged *into, struct tag_names *names, const struct tagged *from,
                  const struct tag_names *from_names);

void tagged_free(struct tagged *t);

#endif
