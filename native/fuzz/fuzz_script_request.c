/* Any text that a script returns: refused, or sent in origin form, which is accepted again and left alone. */
#include <stdint.h>
#include <stdlib.h>

#include "http_request.h"

#define SHORTEST 16u   /* "A b HTTP/1.1", and an empty line */
#define LINES_MAX 250u /* with more, an added Host may go over the parser's bound on fields */

static size_t count_lines(const uint8_t *data, size_t size) {
    size_t lines = 0;
    for (size_t i = 0; i < size; i++) lines += data[i] == '\n';
    return lines;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct request_batch batch = {0}, again = {0};
    if (size > HTTP_HEAD_MAX / 2 || count_lines(data, size) > LINES_MAX) return 0;
    if (!request_prepare((const char *)data, size, "t:81", &batch)) {
        if (batch.count == 0 || batch.len < batch.count * SHORTEST) abort();
        if (request_prepare(batch.data, batch.len, "t:81", &again)) abort();
        if (again.data != batch.data || again.count != batch.count) abort();
        for (size_t i = 0; i < batch.count; i++) {
            if (batch.requests[i].to_head != again.requests[i].to_head) abort();
        }
    }
    request_batch_free(&batch);
    request_batch_free(&again);
    return 0;
}
