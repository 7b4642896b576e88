#include "buffer.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void out_of_memory(void) {
    fputs("out of memory\n", stderr);
    abort();
}

void *must_alloc(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) out_of_memory();
    return memory;
}

void *must_realloc(void *old, size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) out_of_memory();
    void *memory = realloc(old, count * size);
    if (!memory) out_of_memory();
    return memory;
}

void buffer_append(struct buffer *b, const void *data, size_t len) {
    if (len == 0) return;
    if (b->capacity - b->len < len) {
        size_t wanted = b->capacity ? b->capacity * 2 : 256;
        while (wanted - b->len < len) wanted *= 2;
        b->data = must_realloc(b->data, wanted, 1);
        b->capacity = wanted;
    }
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

void buffer_text(struct buffer *b, const char *text) { buffer_append(b, text, strlen(text)); }

void buffer_reset(struct buffer *b, size_t keep) {
    if (b->capacity > keep) buffer_free(b);
    b->len = 0;
}

void buffer_free(struct buffer *b) {
    free(b->data);
    *b = (struct buffer){0};
}
