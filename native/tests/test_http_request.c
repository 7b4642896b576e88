/* What scripts hand over is checked, and absolute URLs become origin form. */
#include "check.h"
#include "guard.h"
#include "http_request.h"

static struct guard page;

static void check_text(const char *expected, const char *text, bool to_head) {
    struct buffer scratch = {0};
    struct request_text out = {0};
    size_t len = strlen(text);
    const char *wrong = request_prepare(guard_place(&page, text, len), len, "t:81", &scratch, &out);
    if (wrong) fprintf(stderr, "refused: %s: %s\n", wrong, text);
    CHECK(!wrong);
    CHECK_INT(strlen(expected), out.len);
    CHECK(!wrong && memcmp(expected, out.data, out.len) == 0);
    CHECK_INT(to_head, out.to_head);
    buffer_free(&scratch);
}

static void origin_form_is_left_alone(void) {
    static const char *const same[] = {
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET /http://a HTTP/1.0\r\n\r\n",
        "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "OPTIONS * HTTP/1.1\r\n\r\n",
        "POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) check_text(same[i], same[i], false);
    check_text("HEAD /h HTTP/1.1\r\n\r\n", "HEAD /h HTTP/1.1\r\n\r\n", true);
}

static void absolute_form_becomes_origin_form(void) {
    check_text("GET /hotels?a=b HTTP/1.1\r\nHost: t:81\r\n\r\n", "GET http://localhost:5000/hotels?a=b HTTP/1.1\r\n\r\n", false);
    check_text("GET / HTTP/1.1\r\nHost: t:81\r\nA: b\r\n\r\n", "GET HTTP://h HTTP/1.1\r\nhost: other\r\nA: b\r\n\r\n", false);
    check_text("GET /?q HTTP/1.0\r\nHost: t:81\r\n\r\n", "GET http://h?q HTTP/1.0\r\nHost: h\r\n\r\n", false);
    check_text("POST /p HTTP/1.1\r\nHost: t:81\r\nA: b\r\nContent-Length: 2\r\n\r\nhi",
               "POST http://h/p HTTP/1.1\r\nA: b\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi", false);
}

static void anything_but_one_request_is_refused(void) {
    static const char *const bad[] = {
        "", "nonsense", "GET /\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n", "GET  / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\nextra", "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc", "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nabc",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "GET / HTTP/1.1\r\nA b\r\n\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct buffer scratch = {0};
        struct request_text out;
        size_t len = strlen(bad[i]);
        const char *wrong = request_prepare(guard_place(&page, bad[i], len), len, "t", &scratch, &out);
        if (!wrong) fprintf(stderr, "accepted: %s\n", bad[i]);
        CHECK(wrong);
    }
}

int main(void) {
    page = guard_new(4096);
    origin_form_is_left_alone();
    absolute_form_becomes_origin_form();
    anything_but_one_request_is_refused();
    return check_result();
}
