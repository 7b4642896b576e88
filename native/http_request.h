/* Check what a script wants to send, and bring absolute URLs into origin form. Pure. */
#ifndef AEFM_HTTP_REQUEST_H
#define AEFM_HTTP_REQUEST_H

#include <stdbool.h>

#include "buffer.h"
#include "http_parser.h"

#define BATCH_MAX 1024u /* requests of one batch */

/* What the sender must know of a request. */
struct request_line {
    struct http_text method, path; /* with the query; they point into the caller's text */
    bool to_head;                  /* its method is HEAD: no body will come back */
};

/* One request, or several that are sent together (pipelined). Zero-initialised is empty; it may be used again. */
struct request_batch {
    const char *data; /* what to send: the caller's text, or `rewritten` where that had to be changed */
    size_t len;
    struct request_line *requests;
    size_t count, room;
    struct buffer rewritten;
};

/* Check that `text` is complete HTTP/1.x requests, one at least and nothing else. An absolute target (http://host/path)
 * is rewritten to its path with Host set to `authority`. Return NULL, or what is wrong (static text). */
const char *request_prepare(const char *text, size_t len, const char *authority, struct request_batch *batch);

void request_batch_free(struct request_batch *batch);

#endif
