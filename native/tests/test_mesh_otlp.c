/* Spans are OTLP in protobuf: lengths of any size are right, field by field. */
#include <stdlib.h>

#include "check.h"
#include "mesh/otlp.h"

struct field {
    unsigned number, wire;
    uint64_t value; /* varint, fixed64 */
    struct http_text bytes;
};

static uint64_t take_varint(const char **at, const char *end) {
    uint64_t value = 0;
    for (int shift = 0; *at < end; shift += 7) {
        unsigned char c = (unsigned char)*(*at)++;
        value |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) break;
    }
    return value;
}

/* Take a field off a message; false at its end. */
static bool take_field(struct http_text *message, struct field *field) {
    const char *at = message->data, *end = at + message->len;
    if (at == end) return false;
    uint64_t tag = take_varint(&at, end);
    *field = (struct field){.number = (unsigned)(tag >> 3), .wire = (unsigned)(tag & 7)};
    if (field->wire == 0) {
        field->value = take_varint(&at, end);
    } else if (field->wire == 1) {
        for (int i = 0; i < 8; i++) field->value |= (uint64_t)(unsigned char)*at++ << 8 * i;
    } else {
        uint64_t len = take_varint(&at, end);
        CHECK_INT(2, field->wire);
        CHECK(len <= (uint64_t)(end - at));
        field->bytes = (struct http_text){at, (size_t)len};
        at += len;
    }
    *message = (struct http_text){at, (size_t)(end - at)};
    return true;
}

static struct field find(struct http_text message, unsigned number) {
    struct field field, found = {0};
    while (take_field(&message, &field)) {
        if (field.number == number) found = field;
    }
    return found;
}

static struct span sample(const struct buffer *attributes, const char *failure) {
    struct span span = {.kind = SPAN_CLIENT, .name = "GET /x", .start_unix_ns = 5, .end_unix_ns = 1ull << 60,
                        .attributes = attributes, .status_code = 503, .failure = failure};
    memset(span.context.trace, 0xab, sizeof span.context.trace);
    memset(span.context.span, 0xcd, sizeof span.context.span);
    memset(span.parent.span, 0xef, sizeof span.parent.span);
    return span;
}

static void check_length(size_t failure_len) {
    struct buffer spans = {0}, attributes = {0};
    char *failure = malloc(failure_len + 1);
    memset(failure, 'f', failure_len);
    failure[failure_len] = '\0';
    otlp_text_attribute(&attributes, "url.path", "/x", 2, false);
    struct span span = sample(&attributes, failure);
    otlp_span(&spans, &span);
    otlp_span(&spans, &span);
    struct http_text rest = {spans.data, spans.len};
    struct field field;
    int count = 0;
    for (; take_field(&rest, &field); count++) {
        CHECK_INT(2, field.number);
        CHECK_INT(16, find(field.bytes, 1).bytes.len);
        CHECK_INT(8, find(field.bytes, 4).bytes.len);
        CHECK_INT(6, find(field.bytes, 5).bytes.len);
        CHECK_INT(3, find(field.bytes, 6).value);
        CHECK_INT(5, find(field.bytes, 7).value);
        CHECK_INT(1ll << 60, find(field.bytes, 8).value);
        CHECK_INT(2, find(find(field.bytes, 15).bytes, 3).value);
        CHECK_INT(failure_len, find(find(field.bytes, 15).bytes, 2).bytes.len);
        CHECK_INT(503, find(find(find(field.bytes, 9).bytes, 2).bytes, 3).value);
    }
    CHECK_INT(2, count);
    buffer_free(&spans);
    buffer_free(&attributes);
    free(failure);
}

static void spans_of_any_length_are_framed(void) {
    check_length(0);
    for (size_t len = 1; len < 300; len++) check_length(len);
    check_length(20000);
    check_length(3000000);
}

static void a_short_span_is_a_root_without_status(void) {
    struct buffer spans = {0};
    struct span span = {.kind = SPAN_SERVER, .name = ""};
    otlp_span(&spans, &span);
    struct http_text all = {spans.data, spans.len};
    struct http_text body = find(all, 2).bytes;
    CHECK_INT(0, find(body, 4).number);
    CHECK_INT(0, find(body, 15).number);
    CHECK_INT(2, find(body, 6).value);
    buffer_free(&spans);
}

static void a_request_holds_resource_scope_and_spans(void) {
    struct buffer resource = {0}, request = {0}, spans = {0};
    struct span span = sample(NULL, NULL);
    otlp_text_attribute(&resource, "service.name", "rate", 4, true);
    otlp_span(&spans, &span);
    otlp_request_head(&request, &resource, spans.len);
    buffer_append(&request, spans.data, spans.len);
    struct http_text all = {request.data, request.len};
    struct http_text resource_spans = find(all, 1).bytes, scope_spans = find(resource_spans, 2).bytes;
    struct http_text attribute = find(find(resource_spans, 1).bytes, 1).bytes;
    CHECK_INT(12, find(attribute, 1).bytes.len);
    CHECK_INT(4, find(find(attribute, 2).bytes, 1).bytes.len);
    CHECK_INT(9, find(find(scope_spans, 1).bytes, 1).bytes.len);
    CHECK_INT(16, find(find(scope_spans, 2).bytes, 1).bytes.len);
    buffer_free(&resource);
    buffer_free(&request);
    buffer_free(&spans);
}

int main(void) {
    spans_of_any_length_are_framed();
    a_short_span_is_a_root_without_status();
    a_request_holds_resource_scope_and_spans();
    return check_result();
}
