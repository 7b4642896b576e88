/* A growing byte buffer. Zero-initialised is empty; memory out ends the process with a message. */
#ifndef AEFM_BUFFER_H
#define AEFM_BUFFER_H

#include <stddef.h>

struct buffer {
    char *data;
    size_t len;
    size_t capacity;
};

/* Memory that is never NULL: a load generator without memory has nothing true left to say. */
void *must_alloc(size_t count, size_t size);
void *must_realloc(void *old, size_t count, size_t size);

void buffer_append(struct buffer *b, const void *data, size_t len);
void buffer_text(struct buffer *b, const char *text);

/* Drop the content; keep at most `keep` bytes of capacity. */
void buffer_reset(struct buffer *b, size_t keep);
void buffer_free(struct buffer *b);

#endif
