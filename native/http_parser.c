#include "http_parser.h"

#include <string.h>
#include <strings.h>

#define FIELDS_MAX 256

static bool is_token_char(unsigned char c) {
    static const char others[] = "!#$%&'*+-.^_`|~";
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')) return true;
    return c != '\0' && strchr(others, c) != NULL;
}

static bool is_text_char(unsigned char c) { return (c >= 0x20 && c != 0x7f) || c == '\t'; }

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool http_text_is(struct http_text text, const char *lower) {
    return strlen(lower) == text.len && strncasecmp(text.data, lower, text.len) == 0;
}

bool http_text_equals(struct http_text text, const char *other) {
    return strlen(other) == text.len && memcmp(text.data, other, text.len) == 0;
}

/* Length of the head with its empty line, HTTP_MORE, or HTTP_BAD when it is over the bound. */
static ssize_t find_head_end(const char *data, size_t len, size_t seen) {
    size_t at = seen > 3 ? seen - 3 : 0;
    while (at < len) {
        const char *lf = memchr(data + at, '\n', len - at);
        if (!lf) break;
        size_t end = (size_t)(lf - data) + 1;
        if (end >= 4 && memcmp(lf - 3, "\r\n\r\n", 4) == 0) return end <= HTTP_HEAD_MAX ? (ssize_t)end : HTTP_BAD;
        at = end;
    }
    return len >= HTTP_HEAD_MAX ? HTTP_BAD : HTTP_MORE;
}

/* Split one "name: value CRLF" line off; false when it is not one. `end` is the head's end. */
static bool split_field(const char **at, const char *end, struct http_text *name, struct http_text *value) {
    const char *c = *at;
    while (c < end && is_token_char((unsigned char)*c)) c++;
    if (c == *at || c == end || *c != ':') return false;
    *name = (struct http_text){*at, (size_t)(c - *at)};
    c++;
    while (c < end && (*c == ' ' || *c == '\t')) c++;
    const char *first = c;
    while (c < end && is_text_char((unsigned char)*c)) c++;
    if (end - c < 2 || c[0] != '\r' || c[1] != '\n') return false;
    *at = c + 2;
    while (c > first && (c[-1] == ' ' || c[-1] == '\t')) c--;
    *value = (struct http_text){first, (size_t)(c - first)};
    return true;
}

static bool take_length(struct http_head *head, struct http_text value) {
    uint64_t length = 0;
    if (value.len == 0 || value.len > 18) return false;
    for (size_t i = 0; i < value.len; i++) {
        if (!is_digit(value.data[i])) return false;
        length = length * 10 + (uint64_t)(value.data[i] - '0');
    }
    if (head->has_length && head->length != length) return false;
    head->has_length = true;
    head->length = length;
    return true;
}

/* Step through a comma-separated list; false at its end. */
static bool next_item(struct http_text *list, struct http_text *item) {
    while (list->len && (*list->data == ',' || *list->data == ' ' || *list->data == '\t')) {
        list->data++;
        list->len--;
    }
    if (list->len == 0) return false;
    const char *comma = memchr(list->data, ',', list->len);
    size_t taken = comma ? (size_t)(comma - list->data) : list->len;
    *item = (struct http_text){list->data, taken};
    while (item->len && (item->data[item->len - 1] == ' ' || item->data[item->len - 1] == '\t')) item->len--;
    list->data += taken;
    list->len -= taken;
    return true;
}

static bool take_field(struct http_head *head, struct http_text name, struct http_text value) {
    struct http_text item;
    if (http_text_is(name, "content-length")) return take_length(head, value);
    if (http_text_is(name, "transfer-encoding")) {
        if (head->chunked) return false; /* chunked must be the last coding */
        while (next_item(&value, &item)) {
            if (head->chunked) return false;
            head->coded = true;
            head->chunked = http_text_is(item, "chunked");
        }
    } else if (http_text_is(name, "connection")) {
        while (next_item(&value, &item)) {
            if (http_text_is(item, "close")) head->close = true;
            if (http_text_is(item, "keep-alive") && head->minor_version == 0) head->close = false;
        }
    }
    return true;
}

static bool parse_fields(struct http_head *head, const char *data, size_t len) {
    const char *at = data + head->fields_at, *end = data + len - 2;
    for (int fields = 0; at < end; fields++) {
        struct http_text name, value;
        if (fields == FIELDS_MAX || !split_field(&at, end, &name, &value)) return false;
        if (!take_field(head, name, value)) return false;
    }
    if (head->coded && (head->has_length || head->minor_version == 0)) return false;
    return true;
}

/* "HTTP/1.0" or "HTTP/1.1" at `c`; -1 when it is neither. */
static int version_at(const char *c, const char *end) {
    if (end - c < 8 || memcmp(c, "HTTP/1.", 7) != 0 || (c[7] != '0' && c[7] != '1')) return -1;
    return c[7] - '0';
}

ssize_t http_parse_response_head(const char *data, size_t len, size_t seen, struct http_head *head) {
    static const char start[] = "HTTP/1.";
    size_t shown = len < sizeof start - 1 ? len : sizeof start - 1;
    if (memcmp(data, start, shown) != 0) return HTTP_BAD; /* no need to wait for a line that cannot be one */
    ssize_t n = find_head_end(data, len, seen);
    if (n < 0) return n;
    *head = (struct http_head){0};
    const char *end = data + n;
    head->minor_version = version_at(data, end);
    if (head->minor_version < 0 || n < 14 || data[8] != ' ') return HTTP_BAD;
    if (!is_digit(data[9]) || !is_digit(data[10]) || !is_digit(data[11]) || data[9] == '0') return HTTP_BAD;
    head->status = (data[9] - '0') * 100 + (data[10] - '0') * 10 + (data[11] - '0');
    const char *c = data + 12;
    if (*c != ' ' && *c != '\r') return HTTP_BAD;
    while (c < end && is_text_char((unsigned char)*c)) c++;
    if (end - c < 2 || c[0] != '\r' || c[1] != '\n') return HTTP_BAD;
    head->close = head->minor_version == 0;
    head->fields_at = (size_t)(c + 2 - data);
    return parse_fields(head, data, (size_t)n) ? n : HTTP_BAD;
}

ssize_t http_parse_request_head(const char *data, size_t len, size_t seen, struct http_head *head) {
    ssize_t n = find_head_end(data, len, seen);
    if (n < 0) return n;
    *head = (struct http_head){0};
    const char *end = data + n, *c = data;
    while (c < end && is_token_char((unsigned char)*c)) c++;
    head->method = (struct http_text){data, (size_t)(c - data)};
    if (c == data || *c != ' ') return HTTP_BAD;
    const char *target = ++c;
    while (c < end && (unsigned char)*c > 0x20 && (unsigned char)*c != 0x7f) c++;
    head->target = (struct http_text){target, (size_t)(c - target)};
    if (c == target || *c != ' ') return HTTP_BAD;
    head->minor_version = version_at(++c, end);
    if (head->minor_version < 0 || end - c < 10 || c[8] != '\r' || c[9] != '\n') return HTTP_BAD;
    head->close = head->minor_version == 0;
    head->fields_at = (size_t)(c + 10 - data);
    return parse_fields(head, data, (size_t)n) ? n : HTTP_BAD;
}

bool http_next_field(const char *data, size_t len, size_t *at, struct http_text *name, struct http_text *value) {
    const char *c = data + *at;
    if (*at + 2 >= len || !split_field(&c, data + len - 2, name, value)) return false;
    *at = (size_t)(c - data);
    return true;
}

enum { SIZE_FIRST, SIZE_MORE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, LINE_START, TRAILER, TRAILER_LF, LAST_LF };

void http_body_of_response(struct http_body *body, const struct http_head *head, bool to_head) {
    bool empty = to_head || head->status < 200 || head->status == 204 || head->status == 304;
    *body = (struct http_body){.framing = HTTP_UNTIL_CLOSE, .state = SIZE_FIRST};
    if (empty) {
        body->framing = HTTP_NO_BODY;
    } else if (head->chunked) {
        body->framing = HTTP_CHUNKED;
    } else if (head->has_length) {
        body->framing = HTTP_LENGTH;
        body->left = head->length;
    }
}

/* Consume up to `len` bytes of content; return how many. */
static size_t take_content(struct http_body *body, const char *data, size_t len, http_sink *sink, void *arg) {
    size_t n = body->left < len ? (size_t)body->left : len;
    if (sink && n) sink(arg, data, n);
    body->left -= n;
    return n;
}

static int hex_value(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The chunk's size line, byte by byte; false when malformed. */
static bool step_size(struct http_body *body, char c) {
    if (++body->bound > HTTP_CHUNK_LINE_MAX) return false;
    int digit = hex_value(c);
    if (body->state == EXTENSION) {
        if (c == '\r') body->state = SIZE_LF;
        return c == '\r' || is_text_char((unsigned char)c);
    }
    if (digit >= 0) {
        if (++body->digits > 15) return false;
        body->left = body->left * 16 + (uint64_t)digit;
        body->state = SIZE_MORE;
        return true;
    }
    if (body->state == SIZE_FIRST) return false;
    if (c == '\r') body->state = SIZE_LF;
    if (c == ';' || c == ' ' || c == '\t') body->state = EXTENSION;
    return body->state != SIZE_MORE;
}

/* Everything of chunked framing but content; false when malformed. `*done` at the last byte of the body. */
static bool step_chunked(struct http_body *body, char c, bool *done) {
    switch (body->state) {
    case SIZE_FIRST:
    case SIZE_MORE:
    case EXTENSION:
        return step_size(body, c);
    case SIZE_LF:
        body->bound = 0;
        body->state = body->left ? DATA : LINE_START;
        return c == '\n';
    case DATA_CR:
        body->state = DATA_LF;
        return c == '\r';
    case DATA_LF:
        body->state = SIZE_FIRST;
        body->digits = 0;
        return c == '\n';
    case LINE_START:
        body->state = c == '\r' ? LAST_LF : TRAILER;
        return c == '\r' || is_token_char((unsigned char)c);
    case TRAILER:
        if (c == '\r') body->state = TRAILER_LF;
        return ++body->bound <= HTTP_TRAILER_MAX && (c == '\r' || is_text_char((unsigned char)c));
    case TRAILER_LF:
        body->state = LINE_START;
        return ++body->bound <= HTTP_TRAILER_MAX && c == '\n';
    default:
        *done = true;
        return c == '\n';
    }
}

static ssize_t feed_chunked(struct http_body *body, const char *data, size_t len, http_sink *sink, void *arg) {
    bool done = false;
    for (size_t at = 0; at < len;) {
        if (body->state == DATA) {
            at += take_content(body, data + at, len - at, sink, arg);
            if (body->left == 0) body->state = DATA_CR;
            continue;
        }
        if (!step_chunked(body, data[at++], &done)) return HTTP_BAD;
        if (done) return (ssize_t)at;
    }
    return HTTP_MORE;
}

ssize_t http_body_feed(struct http_body *body, const char *data, size_t len, http_sink *sink, void *arg) {
    size_t n;
    switch (body->framing) {
    case HTTP_NO_BODY:
        return 0;
    case HTTP_LENGTH:
        n = take_content(body, data, len, sink, arg);
        return body->left ? HTTP_MORE : (ssize_t)n;
    case HTTP_CHUNKED:
        return feed_chunked(body, data, len, sink, arg);
    default:
        if (sink && len) sink(arg, data, len);
        return HTTP_MORE;
    }
}
