#include "http_request.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 8u

static bool starts_with(struct http_text text, const char *lower) {
    size_t len = strlen(lower);
    return http_text_is((struct http_text){text.data, text.len < len ? text.len : len}, lower);
}

/* The path of an absolute target, which may be empty. False where the target is not absolute. */
static bool take_absolute(struct http_text target, struct http_text *path) {
    if (*target.data == '/' || !(starts_with(target, "http://") || starts_with(target, "https://"))) return false;
    const char *at = memchr(target.data, ':', target.len), *end = target.data + target.len;
    for (at += 3; at < end && *at != '/' && *at != '?';) at++;
    *path = (struct http_text){at, (size_t)(end - at)};
    return true;
}

/* Write a request whose target was absolute in origin form. */
static void rewrite(const char *text, size_t len, size_t head_len, const struct http_head *head, struct http_text path,
                    const char *authority, struct buffer *to) {
    size_t at = head->fields_at;
    struct http_text name, value;
    buffer_append(to, head->method.data, head->method.len);
    buffer_text(to, path.len && *path.data == '/' ? " " : " /");
    buffer_append(to, path.data, path.len);
    buffer_text(to, head->minor_version ? " HTTP/1.1\r\nHost: " : " HTTP/1.0\r\nHost: ");
    buffer_text(to, authority);
    buffer_text(to, "\r\n");
    for (size_t line = at; http_next_field(text, head_len, &at, &name, &value); line = at) {
        if (!http_text_is(name, "host")) buffer_append(to, text + line, at - line);
    }
    buffer_append(to, text + head_len - 2, len - head_len + 2);
}

/* The length of the body, as the head announces it. */
static const char *take_body(const struct http_head *head, const char *body, size_t len, size_t *taken) {
    *taken = (size_t)head->length;
    if (!head->chunked) return head->length > len ? "a body shorter than its Content-Length" : NULL;
    struct http_body reader = {.framing = HTTP_CHUNKED};
    ssize_t n = http_body_feed(&reader, body, len, NULL, NULL);
    if (n == HTTP_BAD) return "a malformed chunked body";
    if (n == HTTP_MORE) return "an incomplete chunked body";
    *taken = (size_t)n;
    return NULL;
}

static void add(struct request_batch *batch, struct request_line line) {
    if (batch->count == batch->room) {
        batch->room = batch->room ? batch->room * 2 : FIRST_ROOM;
        batch->requests = must_realloc(batch->requests, batch->room, sizeof *batch->requests);
    }
    batch->requests[batch->count++] = line;
}

/* Take the request at the start of `text`, which follows `before` bytes of others. */
static const char *take_request(const char *text, size_t len, size_t before, const char *authority,
                                struct request_batch *batch, size_t *taken) {
    struct http_head head;
    struct http_text path;
    size_t body;
    ssize_t n = http_parse_request_head(text, len, 0, &head);
    if (n < 0 && before) return "more than its requests: a body without Content-Length?";
    if (n == HTTP_BAD) return "a malformed request";
    if (n == HTTP_MORE) return "an incomplete request (no empty line after the headers)";
    const char *wrong = take_body(&head, text + n, len - (size_t)n, &body);
    if (wrong) return wrong;
    if (batch->count == BATCH_MAX) return "more than 1024 requests";
    *taken = (size_t)n + body;
    struct request_line line = {head.method, head.target, http_text_equals(head.method, "HEAD")};
    if (take_absolute(head.target, &path)) {
        line.path = path.len ? path : (struct http_text){"/", 1};
        if (batch->rewritten.len == 0) buffer_append(&batch->rewritten, text - before, before);
        rewrite(text, *taken, (size_t)n, &head, path, authority, &batch->rewritten);
    } else if (batch->rewritten.len) {
        buffer_append(&batch->rewritten, text, *taken);
    }
    add(batch, line);
    return NULL;
}

const char *request_prepare(const char *text, size_t len, const char *authority, struct request_batch *batch) {
    size_t at = 0, taken = 0;
    batch->count = 0;
    batch->rewritten.len = 0;
    do {
        const char *wrong = take_request(text + at, len - at, at, authority, batch, &taken);
        if (wrong) return wrong;
        at += taken;
    } while (at < len);
    bool changed = batch->rewritten.len > 0;
    batch->data = changed ? batch->rewritten.data : text;
    batch->len = changed ? batch->rewritten.len : len;
    return NULL;
}

void request_batch_free(struct request_batch *batch) {
    free(batch->requests);
    buffer_free(&batch->rewritten);
    *batch = (struct request_batch){0};
}
