/* Any text that a script returns: refused, or sent in origin form, which is accepted again and left alone. */
#include <stdint.h>
#include <stdlib.h>

#include "http_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buffer scratch = {0}, again = {0};
    struct request_text request, same;
    if (!request_prepare((const char *)data, size, "t:81", &scratch, &request)) {
        if (request_prepare(request.data, request.len, "t:81", &again, &same)) abort();
        if (same.data != request.data || same.to_head != request.to_head) abort();
        if (same.path.len != request.path.len && same.path.data[1] != '?') abort();
    }
    buffer_free(&scratch);
    buffer_free(&again);
    return 0;
}
