/* Where a request stands in its trace: W3C Trace Context and B3 in, W3C out. Pure. */
#ifndef AEFM_MESH_TRACE_CONTEXT_H
#define AEFM_MESH_TRACE_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "http_parser.h"

#define TRACEPARENT_LEN 55u

/* Ids in network order; a span of zeros means that there is none. */
struct span_context {
    uint8_t trace[16];
    uint8_t span[8];
    bool sampled;
};

bool span_context_is_set(const struct span_context *context);

/* Read a `traceparent`; false where it is malformed or all zero, as the recommendation asks. */
bool traceparent_read(struct http_text header, struct span_context *context);

/* Write TRACEPARENT_LEN characters, without a NUL. */
void traceparent_write(const struct span_context *context, char *to);

/* What the headers of one request say in B3, of one header (`b3`) or of several (`x-b3-...`). */
struct b3_headers {
    struct http_text single, trace_id, span_id, sampled, flags;
};

/* Take a header if it is one of B3's. */
void b3_take(struct b3_headers *headers, struct http_text name, struct http_text value);

/* False where there is no context in B3, or a malformed one. A decision left open counts as sampled. */
bool b3_read(const struct b3_headers *headers, struct span_context *context);

#endif
