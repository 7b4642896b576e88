/* HTTP/1.1 messages: strict, bounded, resumable parsing over caller-owned memory. No allocation, no I/O.
 *
 * Return values, throughout:  n >= 0  bytes consumed, the part is complete
 *                             HTTP_BAD (-1)   malformed or over a bound; the connection is of no more use
 *                             HTTP_MORE (-2)  incomplete; call again with more bytes
 * Nothing is read outside [data, data + len). Lines end in CRLF; a bare LF, a folded header, a space before the
 * colon, control characters, Content-Length beside Transfer-Encoding and lengths that disagree are malformed.
 */
#ifndef AEFM_HTTP_PARSER_H
#define AEFM_HTTP_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define HTTP_BAD (-1)
#define HTTP_MORE (-2)
#define HTTP_HEAD_MAX 65536u       /* bytes of start line and headers */
#define HTTP_CHUNK_LINE_MAX 4096u  /* a chunk's size line with extensions */
#define HTTP_TRAILER_MAX 16384u    /* all trailer lines together */

struct http_text {
    const char *data;
    size_t len;
};

struct http_head {
    int status;               /* responses: 100 to 999 */
    struct http_text method;  /* requests; points into the caller's data */
    struct http_text target;
    int minor_version;        /* HTTP/1.x */
    bool close;               /* the connection ends after this message */
    bool chunked;             /* Transfer-Encoding ends in chunked */
    bool coded;               /* any Transfer-Encoding */
    bool has_length;
    uint64_t length;          /* Content-Length */
    size_t fields_at;         /* offset of the first header line */
};

/* Parse a whole head (start line to empty line) at `data`. `seen` bytes of it were there in an earlier call that
 * returned HTTP_MORE (0 at first), so that the search for the end does not start over. */
ssize_t http_parse_response_head(const char *data, size_t len, size_t seen, struct http_head *head);
ssize_t http_parse_request_head(const char *data, size_t len, size_t seen, struct http_head *head);

/* Step through the header fields of a head that parsed. `*at` starts as head->fields_at. Return false at the end.
 * Values are without surrounding white space. */
bool http_next_field(const char *data, size_t len, size_t *at, struct http_text *name, struct http_text *value);

/* Compare a field name or token, ignoring case, with a lower-case literal. */
bool http_text_is(struct http_text text, const char *lower);

/* Compare exactly. */
bool http_text_equals(struct http_text text, const char *other);

enum http_framing { HTTP_NO_BODY, HTTP_LENGTH, HTTP_CHUNKED, HTTP_UNTIL_CLOSE };

struct http_body {
    enum http_framing framing;
    uint64_t left;  /* of the length or of the chunk */
    uint32_t bound; /* bytes of the current line, or of all trailers */
    uint8_t state;
    uint8_t digits;
};

/* Receives decoded body bytes; NULL where nobody wants them. */
typedef void http_sink(void *arg, const char *data, size_t len);

/* Prepare to read the body of a response to a request (`to_head`: its method was HEAD). */
void http_body_of_response(struct http_body *body, const struct http_head *head, bool to_head);

/* Consume body bytes. A body until close is never complete here: it always asks for more. */
ssize_t http_body_feed(struct http_body *body, const char *data, size_t len, http_sink *sink, void *arg);

#endif
