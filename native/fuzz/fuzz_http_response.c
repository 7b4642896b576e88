/* Any bytes from a server: read or refused, and the same however the network cuts them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http_reader.h"

struct settings {
    bool to_head, keep;
    size_t piece;
};

static struct settings take_settings(uint8_t byte) {
    return (struct settings){.to_head = byte & 1, .keep = byte & 2, .piece = 1 + (byte >> 2)};
}

/* Feed `piece` bytes at a time, each from memory of its own, where reading one too far is seen. */
static ssize_t feed(struct http_reader *r, const uint8_t *data, size_t size, size_t piece, const struct settings *s) {
    http_reader_start(r, s->to_head, s->keep);
    for (size_t at = 0; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        char *copy = memcpy(must_alloc(n, 1), data + at, n);
        ssize_t used = http_reader_feed(r, copy, n);
        free(copy);
        if (used > (ssize_t)n) abort();
        if (used != HTTP_MORE) return used < 0 ? used : (ssize_t)at + used;
    }
    return HTTP_MORE;
}

static void check_same(const struct http_reader *a, const struct http_reader *b) {
    if (a->head.status != b->head.status || a->head.close != b->head.close) abort();
    if (a->kept_body.len != b->kept_body.len || (a->keep && a->head_len != b->head_len)) abort();
    if (a->kept_body.len && memcmp(a->kept_body.data, b->kept_body.data, a->kept_body.len) != 0) abort();
}

/* Walk over the headers, as a script's response() does. */
static void walk(const struct http_reader *r) {
    struct http_text name, value;
    size_t at = r->head.fields_at;
    while (http_next_field(r->kept_head.data, r->head_len, &at, &name, &value)) {
        if (name.len == 0 || name.data < r->kept_head.data) abort();
        if (value.data + value.len > r->kept_head.data + r->head_len) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct http_reader whole = {0}, cut = {0};
    if (size == 0) return 0;
    struct settings settings = take_settings(*data);
    ssize_t n = feed(&whole, data + 1, size - 1, size, &settings);
    if (n != feed(&cut, data + 1, size - 1, settings.piece, &settings)) abort();
    if (n >= 0) check_same(&whole, &cut);
    if (n >= 0 && settings.keep) walk(&whole);
    if (http_reader_ends_at_close(&whole) != http_reader_ends_at_close(&cut) && n != HTTP_BAD) abort();
    http_reader_free(&whole);
    http_reader_free(&cut);
    return 0;
}
