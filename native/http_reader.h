/* Assemble one HTTP response from whatever pieces the network delivers. One reader per connection, reused. */
#ifndef AEFM_HTTP_READER_H
#define AEFM_HTTP_READER_H

#include "buffer.h"
#include "http_parser.h"

#define HTTP_KEPT_BODY_MAX (64u << 20)

struct http_reader {
    struct http_head head;
    struct http_body body;
    bool in_body;
    bool to_head;       /* the request's method was HEAD */
    bool keep;          /* collect head and body below, for whoever wants to look at them */
    bool started;       /* a byte of the response was seen */
    size_t head_len;    /* of kept_head, once it is complete */
    struct buffer kept_head; /* an incomplete head, or all of it if `keep` */
    struct buffer kept_body;
};

/* Begin the next response. */
void http_reader_start(struct http_reader *r, bool to_head, bool keep);

/* Feed received bytes. Return n >= 0: the (final) response ended after n of them; HTTP_BAD or HTTP_MORE.
 * Interim 1xx responses are skipped; 101 was never asked for and is malformed. */
ssize_t http_reader_feed(struct http_reader *r, const char *data, size_t len);

/* Tell whether the peer's closing of the connection now completes the response. */
bool http_reader_ends_at_close(const struct http_reader *r);

void http_reader_free(struct http_reader *r);

#endif
