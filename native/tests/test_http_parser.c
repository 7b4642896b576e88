/* Responses: every message gives the same result however it is split, and no byte beyond it is read. */
#include "check.h"
#include "guard.h"
#include "http_reader.h"

static struct guard page;

/* Feed `text` in two parts, split at `cut`, then report what came of it. */
static ssize_t feed_split(struct http_reader *r, const char *text, size_t len, size_t cut, bool to_head) {
    http_reader_start(r, to_head, true);
    ssize_t n = HTTP_MORE;
    if (cut) n = http_reader_feed(r, guard_place(&page, text, cut), cut);
    if (n != HTTP_MORE) return n;
    n = http_reader_feed(r, guard_place(&page, text + cut, len - cut), len - cut);
    return n < 0 ? n : n + (ssize_t)cut;
}

static ssize_t feed_bytes(struct http_reader *r, const char *text, size_t len, bool to_head) {
    http_reader_start(r, to_head, true);
    for (size_t i = 0; i < len; i++) {
        ssize_t n = http_reader_feed(r, guard_place(&page, text + i, 1), 1);
        if (n != HTTP_MORE) return n < 0 ? n : n + (ssize_t)i;
    }
    return HTTP_MORE;
}

struct good {
    const char *text;
    int status;
    const char *body;
    bool close, to_head, until_close;
    size_t extra; /* bytes after the response */
};

static const struct good goods[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", false, false, false, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP", 200, "hello", false, false, false, 4},
    {"HTTP/1.1 200\r\ncontent-length:0\r\n\r\n", 200, "", false, false, false, 0},
    {"HTTP/1.1 404 Not \tFound\r\nX-A: \r\nContent-Length: 2 \r\nContent-Length: 2\r\n\r\nno", 404, "no", false, false, false, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200, "hello", false, false, false, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n2;a=\"b\"\r\nhe\r\n003 \r\nllo\r\n00;x\r\nT: v\r\nU: w\r\n\r\n", 200, "hello", false, false, false, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\nrest", 200, "abcdefghijklmnopqrstuvwxyz", false, false, false, 4},
    {"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", 200, "", false, true, false, 0},
    {"HTTP/1.1 204 No Content\r\n\r\n", 204, "", false, false, false, 0},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", 304, "", false, false, false, 0},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: a\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: 1\r\n\r\nx", 201, "x", false, false, false, 0},
    {"HTTP/1.1 200 OK\r\nConnection: foo, close\r\nContent-Length: 1\r\n\r\nx", 200, "x", true, false, false, 0},
    {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, "x", true, false, false, 0},
    {"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx", 200, "x", false, false, false, 0},
    {"HTTP/1.1 200 OK\r\nX-Bytes: \x80\xff\r\n\r\nuntil the end", 200, "until the end", false, false, true, 0},
    {"HTTP/1.1 999 ?\r\nContent-Length: 0\r\n\r\n", 999, "", false, false, false, 0},
};

static void check_good(const struct http_reader *r, const struct good *g, ssize_t n) {
    size_t len = strlen(g->text);
    CHECK_INT(g->until_close ? HTTP_MORE : (ssize_t)(len - g->extra), n);
    CHECK_INT(g->status, r->head.status);
    CHECK_INT(g->close, r->head.close);
    CHECK_INT(g->until_close, http_reader_ends_at_close(r));
    CHECK_INT(strlen(g->body), r->kept_body.len);
    CHECK(r->kept_body.len == 0 || memcmp(g->body, r->kept_body.data, r->kept_body.len) == 0);
}

static void good_responses_parse_however_split(void) {
    struct http_reader r = {0};
    for (size_t i = 0; i < sizeof goods / sizeof *goods; i++) {
        const struct good *g = &goods[i];
        size_t len = strlen(g->text);
        for (size_t cut = 0; cut < len - g->extra; cut++) check_good(&r, g, feed_split(&r, g->text, len, cut, g->to_head));
        ssize_t n = feed_bytes(&r, g->text, len, g->to_head);
        check_good(&r, g, n);
    }
    http_reader_free(&r);
}

static const char *const bads[] = {
    "garbage\r\n\r\n", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.2 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n",
    "HTTP/1.1 099 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n", "HTTP/1.1 200 O\x01K\r\n\r\n",
    "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
    "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\nB: c\r\n\r\n",
    "HTTP/1.1 200 OK\r\nA: b\x7f\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ng\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nx", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\ry",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1234567890abcdef\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n bad\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\rx",
};

static void bad_responses_are_refused_however_split(void) {
    struct http_reader r = {0};
    for (size_t i = 0; i < sizeof bads / sizeof *bads; i++) {
        size_t len = strlen(bads[i]);
        for (size_t cut = 0; cut < len; cut++) {
            if (feed_split(&r, bads[i], len, cut, false) == HTTP_BAD) continue;
            fprintf(stderr, "accepted (cut %zu): %s\n", cut, bads[i]);
            check_failures++;
        }
        CHECK_INT(HTTP_BAD, feed_bytes(&r, bads[i], len, false));
    }
    http_reader_free(&r);
}

/* `prefix`, then `filler` over and over: must be refused within `limit` bytes. */
static void check_bound(const char *prefix, const char *filler, size_t limit) {
    struct http_reader r = {0};
    http_reader_start(&r, false, false);
    size_t fed = strlen(prefix);
    ssize_t n = http_reader_feed(&r, prefix, fed);
    while (n == HTTP_MORE && fed < limit + 1000) {
        n = http_reader_feed(&r, filler, strlen(filler));
        fed += strlen(filler);
    }
    CHECK_INT(HTTP_BAD, n);
    http_reader_free(&r);
}

static void endless_parts_are_bounded(void) {
    check_bound("HTTP/1.1 200 ", "O", HTTP_HEAD_MAX);
    check_bound("HTTP/1.1 200 OK\r\n", "A: b\r\n", HTTP_HEAD_MAX);
    check_bound("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "x", HTTP_CHUNK_LINE_MAX + 64);
    check_bound("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "T: v\r\n", HTTP_TRAILER_MAX * 2);
    check_bound("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0", 64);
}

static void headers_can_be_walked(void) {
    static const char text[] = "HTTP/1.1 200 OK\r\nX-Token:  abc \r\nEmpty:\r\n\r\n";
    struct http_head head;
    struct http_text name, value;
    size_t len = sizeof text - 1;
    const char *at_guard = guard_place(&page, text, len);
    CHECK_INT(len, http_parse_response_head(at_guard, len, 0, &head));
    size_t at = head.fields_at;
    CHECK(http_next_field(at_guard, len, &at, &name, &value));
    CHECK(http_text_is(name, "x-token") && http_text_is(value, "abc"));
    CHECK(http_next_field(at_guard, len, &at, &name, &value));
    CHECK(http_text_is(name, "empty") && value.len == 0);
    CHECK(!http_next_field(at_guard, len, &at, &name, &value));
}

/* Deterministic noise over a valid response: no crash, no read out of bounds, never more consumed than given. */
static void mutations_do_no_harm(void) {
    struct http_reader r = {0};
    unsigned seed = 1;
    for (int round = 0; round < 200000; round++) {
        char text[256];
        const char *base = goods[round % (int)(sizeof goods / sizeof *goods)].text;
        size_t len = strlen(base);
        memcpy(text, base, len);
        for (int changes = 0; changes < 3; changes++) {
            seed = seed * 1103515245u + 12345u;
            text[(seed >> 8) % len] = (char)(seed >> 24);
        }
        size_t cut = (seed >> 4) % len;
        ssize_t n = feed_split(&r, text, len, cut, false);
        CHECK(n <= (ssize_t)len);
    }
    http_reader_free(&r);
}

int main(void) {
    page = guard_new(1 << 17);
    good_responses_parse_however_split();
    bad_responses_are_refused_however_split();
    endless_parts_are_bounded();
    headers_can_be_walked();
    mutations_do_no_harm();
    return check_result();
}
