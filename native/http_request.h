/* Check the text of one request before it is sent, and bring an absolute URL into origin form. Pure. */
#ifndef AEFM_HTTP_REQUEST_H
#define AEFM_HTTP_REQUEST_H

#include <stdbool.h>

#include "buffer.h"
#include "http_parser.h"

/* What the sender must know of a request. */
struct request_text {
    const char *data; /* what to send: the caller's text, or `scratch` where it had to be rewritten */
    size_t len;
    bool to_head; /* its method is HEAD: no body will come back */
    struct http_text method, path; /* with the query; they point into the caller's text */
};

/* Check that `text` is exactly one complete HTTP/1.x request. An absolute target (http://host/path) is rewritten
 * to its path with Host set to `authority`. Return NULL, or what is wrong with it (static text). */
const char *request_prepare(const char *text, size_t len, const char *authority, struct buffer *scratch,
                            struct request_text *out);

#endif
