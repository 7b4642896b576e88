#include "http_reader.h"

#include <string.h>

#define KEPT_CAPACITY 8192u

void http_reader_start(struct http_reader *r, bool to_head, bool keep) {
    buffer_reset(&r->kept_head, KEPT_CAPACITY);
    buffer_reset(&r->kept_body, KEPT_CAPACITY);
    r->in_body = r->started = false;
    r->to_head = to_head;
    r->keep = keep;
    r->head_len = 0;
}

static void keep_body(void *arg, const char *data, size_t len) {
    struct http_reader *r = arg;
    buffer_append(&r->kept_body, data, len);
}

/* Take head bytes; return how many of these belonged to the head, or an error. */
static ssize_t feed_head(struct http_reader *r, const char *data, size_t len) {
    size_t before = r->kept_head.len;
    ssize_t n;
    if (before == 0) {
        n = http_parse_response_head(data, len, 0, &r->head);
        if (n >= 0 && r->keep) buffer_append(&r->kept_head, data, (size_t)n);
        if (n == HTTP_MORE) buffer_append(&r->kept_head, data, len);
    } else {
        size_t room = before < HTTP_HEAD_MAX ? HTTP_HEAD_MAX - before : 0;
        buffer_append(&r->kept_head, data, len < room ? len : room);
        n = http_parse_response_head(r->kept_head.data, r->kept_head.len, before, &r->head);
        if (n >= 0) {
            r->kept_head.len = (size_t)n;
            n -= (ssize_t)before;
        }
    }
    return n;
}

ssize_t http_reader_feed(struct http_reader *r, const char *data, size_t len) {
    size_t at = 0;
    if (len) r->started = true;
    while (!r->in_body) {
        if (at == len) return HTTP_MORE;
        ssize_t n = feed_head(r, data + at, len - at);
        if (n < 0) return n;
        at += (size_t)n;
        if (r->head.status == 101) return HTTP_BAD;
        if (r->head.status >= 200) {
            r->in_body = true;
            r->head_len = r->kept_head.len;
            http_body_of_response(&r->body, &r->head, r->to_head);
        } else {
            r->kept_head.len = 0;
        }
    }
    ssize_t n = http_body_feed(&r->body, data + at, len - at, r->keep ? keep_body : NULL, r);
    if (r->kept_body.len > HTTP_KEPT_BODY_MAX) return HTTP_BAD;
    return n < 0 ? n : (ssize_t)at + n;
}

bool http_reader_ends_at_close(const struct http_reader *r) {
    return r->in_body && r->body.framing == HTTP_UNTIL_CLOSE;
}

void http_reader_free(struct http_reader *r) {
    buffer_free(&r->kept_head);
    buffer_free(&r->kept_body);
}
