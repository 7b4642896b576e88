/* OTLP traces in protobuf (opentelemetry-proto 1.x): spans are encoded when they end, and framed when they leave. */
#ifndef AEFM_MESH_OTLP_H
#define AEFM_MESH_OTLP_H

#include "buffer.h"
#include "mesh/trace_context.h"

enum span_kind { SPAN_SERVER = 2, SPAN_CLIENT = 3 };

struct span {
    enum span_kind kind;
    struct span_context context;
    struct span_context parent; /* zero: a root */
    const char *name;
    uint64_t start_unix_ns, end_unix_ns;
    const struct buffer *attributes; /* encoded by the functions below; NULL: none */
    int status_code;                 /* http.response.status_code, 0: none */
    uint32_t resend_count;           /* http.request.resend_count, 0: none */
    struct http_text path;           /* url.path where `attributes` has none; empty: none */
    const char *failure;             /* makes it an error; NULL: none */
};

/* Append an attribute, as part of a span or, with `resource`, of a resource. */
void otlp_text_attribute(struct buffer *to, const char *name, const char *value, size_t len, bool resource);
void otlp_int_attribute(struct buffer *to, const char *name, uint64_t value);

/* Append a span as an element of ScopeSpans. */
void otlp_span(struct buffer *to, const struct span *span);

/* Write what comes before `spans_len` bytes of spans in an ExportTraceServiceRequest of one resource, whose
 * attributes are `resource`. */
void otlp_request_head(struct buffer *to, const struct buffer *resource, size_t spans_len);

#endif
