#include "mesh/otlp.h"

#include <string.h>

#define SCOPE "aefm-mesh"
#define WIRE_VARINT 0u
#define WIRE_FIXED64 1u
#define WIRE_BYTES 2u
#define STATUS_ERROR 2u
#define HEAD_MAX 256u /* of a span without its name, attributes and failure */

static char *put_varint(char *to, uint64_t value) {
    for (; value >= 0x80; value >>= 7) *to++ = (char)(value | 0x80);
    *to++ = (char)value;
    return to;
}

static size_t varint_len(uint64_t value) {
    size_t len = 1;
    for (; value >= 0x80; value >>= 7) len++;
    return len;
}

/* Fields up to 15 have a tag of one byte. */
static char *put_tag(char *to, unsigned field, unsigned wire) {
    *to++ = (char)(field << 3 | wire);
    return to;
}

static char *put_bytes(char *to, unsigned field, const void *data, size_t len) {
    to = put_varint(put_tag(to, field, WIRE_BYTES), len);
    if (len) memcpy(to, data, len);
    return to + len;
}

static size_t bytes_len(size_t len) { return 1 + varint_len(len) + len; }

static char *put_time(char *to, unsigned field, uint64_t ns) {
    to = put_tag(to, field, WIRE_FIXED64);
    for (int i = 0; i < 8; i++) *to++ = (char)(ns >> 8 * i);
    return to;
}

static void append_tag(struct buffer *to, unsigned field, size_t len) {
    char head[12];
    buffer_append(to, head, (size_t)(put_varint(put_tag(head, field, WIRE_BYTES), len) - head));
}

/* KeyValue {key = 1, value = 2 {AnyValue}} as field 9 of a Span, or 1 of a Resource. */
void otlp_text_attribute(struct buffer *to, const char *name, const char *value, size_t len, bool resource) {
    size_t any = bytes_len(len), key = strlen(name);
    append_tag(to, resource ? 1 : 9, bytes_len(key) + bytes_len(any));
    append_tag(to, 1, key);
    buffer_append(to, name, key);
    append_tag(to, 2, any);
    append_tag(to, 1, len);
    buffer_append(to, value, len);
}

void otlp_int_attribute(struct buffer *to, const char *name, uint64_t value) {
    char any[12], *end = put_varint(put_tag(any, 3, WIRE_VARINT), value);
    size_t len = (size_t)(end - any), key = strlen(name);
    append_tag(to, 9, bytes_len(key) + bytes_len(len));
    append_tag(to, 1, key);
    buffer_append(to, name, key);
    append_tag(to, 2, len);
    buffer_append(to, any, len);
}

static void append_attributes(struct buffer *to, const struct span *span) {
    if (span->attributes) buffer_append(to, span->attributes->data, span->attributes->len);
    if (span->path.len) otlp_text_attribute(to, "url.path", span->path.data, span->path.len, false);
    if (span->status_code) otlp_int_attribute(to, "http.response.status_code", (uint64_t)span->status_code);
    if (span->resend_count) otlp_int_attribute(to, "http.request.resend_count", span->resend_count);
}

static void append_status(struct buffer *to, const char *failure) {
    size_t len = strlen(failure);
    char code[2] = {3 << 3 | WIRE_VARINT, STATUS_ERROR};
    append_tag(to, 15, bytes_len(len) + sizeof code);
    append_tag(to, 2, len);
    buffer_append(to, failure, len);
    buffer_append(to, code, sizeof code);
}

static void append_fixed_part(struct buffer *to, const struct span *span) {
    char head[HEAD_MAX], *at = head;
    at = put_bytes(at, 1, span->context.trace, sizeof span->context.trace);
    at = put_bytes(at, 2, span->context.span, sizeof span->context.span);
    if (span_context_is_set(&span->parent)) at = put_bytes(at, 4, span->parent.span, sizeof span->parent.span);
    at = put_varint(put_tag(at, 6, WIRE_VARINT), (uint64_t)span->kind);
    at = put_time(at, 7, span->start_unix_ns);
    at = put_time(at, 8, span->end_unix_ns);
    buffer_append(to, head, (size_t)(at - head));
}

void otlp_span(struct buffer *to, const struct span *span) {
    /* The length comes first and is known last: room for its usual two bytes, and a move where it has more or less. */
    size_t start = to->len, name = strlen(span->name);
    buffer_append(to, "\0\0\0", 3);
    append_fixed_part(to, span);
    append_tag(to, 5, name);
    buffer_append(to, span->name, name);
    append_attributes(to, span);
    if (span->failure) append_status(to, span->failure);
    size_t body = to->len - start - 3, width = varint_len(body);
    if (width != 2) {
        buffer_append(to, "\0\0\0\0\0\0\0\0", 8);
        memmove(to->data + start + 1 + width, to->data + start + 3, body);
        to->len = start + 1 + width + body;
    }
    put_varint(put_tag(to->data + start, 2, WIRE_BYTES), body);
}

/* ExportTraceServiceRequest {1: ResourceSpans {1: Resource, 2: ScopeSpans {1: Scope {1: name}, 2: spans...}}} */
void otlp_request_head(struct buffer *to, const struct buffer *resource, size_t spans_len) {
    size_t scope = bytes_len(strlen(SCOPE));
    size_t scope_spans = bytes_len(scope) + spans_len;
    append_tag(to, 1, bytes_len(resource->len) + bytes_len(scope_spans));
    append_tag(to, 1, resource->len);
    buffer_append(to, resource->data, resource->len);
    append_tag(to, 2, scope_spans);
    append_tag(to, 1, scope);
    append_tag(to, 1, strlen(SCOPE));
    buffer_text(to, SCOPE);
}
