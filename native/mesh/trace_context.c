#include "mesh/trace_context.h"

#include <string.h>

static int hex_digit(char c, bool upper) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return upper && c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Decode `count` bytes; false where a character is no digit. W3C admits small letters only. */
static bool read_hex(const char *text, size_t count, bool upper, uint8_t *to) {
    for (size_t i = 0; i < count; i++) {
        int high = hex_digit(text[2 * i], upper), low = hex_digit(text[2 * i + 1], upper);
        if (high < 0 || low < 0) return false;
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static void write_hex(const uint8_t *bytes, size_t count, char *to) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        *to++ = digits[bytes[i] >> 4];
        *to++ = digits[bytes[i] & 15];
    }
}

static bool any(const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (bytes[i]) return true;
    }
    return false;
}

bool span_context_is_set(const struct span_context *c) { return any(c->span, sizeof c->span); }

static bool ids_are_set(const struct span_context *c) {
    return any(c->trace, sizeof c->trace) && any(c->span, sizeof c->span);
}

bool traceparent_read(struct http_text header, struct span_context *context) {
    const char *h = header.data;
    uint8_t version, flags;
    if (header.len < TRACEPARENT_LEN || h[2] != '-' || h[35] != '-' || h[52] != '-') return false;
    if (!read_hex(h, 1, false, &version) || !read_hex(h + 3, 16, false, context->trace)) return false;
    if (!read_hex(h + 36, 8, false, context->span) || !read_hex(h + 53, 1, false, &flags)) return false;
    bool longer = header.len > TRACEPARENT_LEN;
    if (version == 0xff || (longer && (version == 0 || h[TRACEPARENT_LEN] != '-'))) return false;
    context->sampled = flags & 1;
    return ids_are_set(context);
}

void traceparent_write(const struct span_context *c, char *to) {
    memcpy(to, "00-", 3);
    write_hex(c->trace, 16, to + 3);
    to[35] = '-';
    write_hex(c->span, 8, to + 36);
    memcpy(to + 52, c->sampled ? "-01" : "-00", 3);
}

void b3_take(struct b3_headers *headers, struct http_text name, struct http_text value) {
    if (http_text_is(name, "b3")) headers->single = value;
    else if (http_text_is(name, "x-b3-traceid")) headers->trace_id = value;
    else if (http_text_is(name, "x-b3-spanid")) headers->span_id = value;
    else if (http_text_is(name, "x-b3-sampled")) headers->sampled = value;
    else if (http_text_is(name, "x-b3-flags")) headers->flags = value;
}

/* A trace id of 64 bits is the lower half of one of 128. */
static bool read_ids(struct http_text trace, struct http_text span, struct span_context *c) {
    if ((trace.len != 16 && trace.len != 32) || span.len != 16) return false;
    size_t bytes = trace.len / 2;
    memset(c->trace, 0, sizeof c->trace);
    return read_hex(trace.data, bytes, true, c->trace + 16 - bytes) && read_hex(span.data, 8, true, c->span) &&
           ids_are_set(c);
}

/* "1", "d" (debug), "true" and nothing at all are yes. */
static bool is_sampled(struct http_text text) {
    return text.len == 0 || http_text_is(text, "1") || http_text_is(text, "d") || http_text_is(text, "true");
}

/* "trace-span[-sampled[-parent]]"; a lone "0" has no ids. */
static bool read_single(struct http_text text, struct span_context *context) {
    struct http_text parts[4] = {{0}};
    for (int i = 0; i < 4; i++) {
        const char *dash = text.len ? memchr(text.data, '-', text.len) : NULL;
        size_t len = dash ? (size_t)(dash - text.data) : text.len;
        parts[i] = (struct http_text){text.data, len};
        text.data += dash ? len + 1 : len;
        text.len -= dash ? len + 1 : len;
    }
    context->sampled = is_sampled(parts[2]);
    return read_ids(parts[0], parts[1], context);
}

bool b3_read(const struct b3_headers *headers, struct span_context *context) {
    if (headers->single.len) return read_single(headers->single, context);
    if (!headers->trace_id.len) return false;
    context->sampled = is_sampled(headers->sampled) || http_text_is(headers->flags, "1");
    return read_ids(headers->trace_id, headers->span_id, context);
}
