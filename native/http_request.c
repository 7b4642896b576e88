#include "http_request.h"

#include <string.h>


/* The path of an absolute target: "/" where it has none. NULL where the target is not absolute. */
static const char *absolute_path(struct http_text target, size_t *len) {
    static const char scheme[] = "http://";
    size_t skip = sizeof scheme - 1;
    struct http_text start = {target.data, target.len < skip ? target.len : skip};
    if (!http_text_is(start, scheme)) return NULL;
    while (skip < target.len && target.data[skip] != '/' && target.data[skip] != '?') skip++;
    *len = target.len - skip;
    return target.data + skip;
}

static void rewrite(const char *text, size_t len, size_t head_len, const struct http_head *head,
                    const char *authority, struct buffer *to) {
    size_t path_len = 0, at = head->fields_at;
    const char *path = absolute_path(head->target, &path_len);
    struct http_text name, value;
    buffer_reset(to, SIZE_MAX);
    buffer_append(to, head->method.data, head->method.len);
    buffer_text(to, path_len && *path == '/' ? " " : " /");
    buffer_append(to, path, path_len);
    buffer_text(to, head->minor_version ? " HTTP/1.1\r\nHost: " : " HTTP/1.0\r\nHost: ");
    buffer_text(to, authority);
    buffer_text(to, "\r\n");
    for (size_t line = at; http_next_field(text, head_len, &at, &name, &value); line = at) {
        if (!http_text_is(name, "host")) buffer_append(to, text + line, at - line);
    }
    buffer_append(to, text + head_len - 2, len - head_len + 2);
}

/* Length of the body as the head announces it, or -1 with a chunked one, whose end must be looked for. */
static const char *check_body(const struct http_head *head, const char *body, size_t len) {
    if (head->chunked) {
        struct http_body reader = {.framing = HTTP_CHUNKED};
        ssize_t n = http_body_feed(&reader, body, len, NULL, NULL);
        if (n == HTTP_BAD) return "a malformed chunked body";
        if (n == HTTP_MORE) return "an incomplete chunked body";
        return (size_t)n == len ? NULL : "more than one request (pipelining is not supported)";
    }
    if (head->length > len) return "a body shorter than its Content-Length";
    if (head->length == len) return NULL;
    return head->has_length ? "a body longer than its Content-Length, or more than one request (no pipelining)"
                            : "a body without Content-Length, or more than one request (no pipelining)";
}

const char *request_prepare(const char *text, size_t len, const char *authority, struct buffer *scratch,
                            struct request_text *out) {
    struct http_head head;
    size_t path_len;
    ssize_t n = http_parse_request_head(text, len, 0, &head);
    if (n == HTTP_BAD) return "a malformed request";
    if (n == HTTP_MORE) return "an incomplete request (no empty line after the headers)";
    const char *wrong = check_body(&head, text + n, len - (size_t)n);
    if (wrong) return wrong;
    bool to_head = head.method.len == 4 && memcmp(head.method.data, "HEAD", 4) == 0;
    *out = (struct request_text){text, len, to_head, head.method, head.target};
    const char *path = *head.target.data == '/' ? NULL : absolute_path(head.target, &path_len);
    if (path) {
        out->path = path_len ? (struct http_text){path, path_len} : (struct http_text){"/", 1};
        rewrite(text, len, (size_t)n, &head, authority, scratch);
        out->data = scratch->data;
        out->len = scratch->len;
    }
    return NULL;
}
