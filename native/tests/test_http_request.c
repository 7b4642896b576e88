/* What scripts hand over is checked, and absolute URLs become origin form. */
#include "check.h"
#include "guard.h"
#include "http_request.h"

static struct guard page;

/* `shape` has a letter for each request: H where it is a HEAD, else R. */
static void check_text(const char *expected, const char *text, const char *shape) {
    struct request_batch batch = {0};
    size_t len = strlen(text);
    const char *wrong = request_prepare(guard_place(&page, text, len), len, "t:81", &batch);
    if (wrong) fprintf(stderr, "refused: %s: %s\n", wrong, text);
    CHECK(!wrong);
    CHECK_INT(strlen(shape), batch.count);
    for (size_t i = 0; !wrong && i < batch.count; i++) CHECK_INT(shape[i] == 'H', batch.requests[i].to_head);
    CHECK_INT(strlen(expected), batch.len);
    CHECK(!wrong && memcmp(expected, batch.data, batch.len) == 0);
    request_batch_free(&batch);
}

static void origin_form_is_left_alone(void) {
    static const char *const same[] = {
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET /http://a HTTP/1.0\r\n\r\n",
        "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "OPTIONS * HTTP/1.1\r\n\r\n",
        "POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) check_text(same[i], same[i], "R");
    check_text("HEAD /h HTTP/1.1\r\n\r\n", "HEAD /h HTTP/1.1\r\n\r\n", "H");
}

static void absolute_form_becomes_origin_form(void) {
    check_text("GET /hotels?a=b HTTP/1.1\r\nHost: t:81\r\n\r\n", "GET http://localhost:5000/hotels?a=b HTTP/1.1\r\n\r\n", "R");
    check_text("GET / HTTP/1.1\r\nHost: t:81\r\nA: b\r\n\r\n", "GET HTTP://h HTTP/1.1\r\nhost: other\r\nA: b\r\n\r\n", "R");
    check_text("GET /?q HTTP/1.0\r\nHost: t:81\r\n\r\n", "GET http://h?q HTTP/1.0\r\nHost: h\r\n\r\n", "R");
    check_text("POST /p HTTP/1.1\r\nHost: t:81\r\nA: b\r\nContent-Length: 2\r\n\r\nhi",
               "POST http://h/p HTTP/1.1\r\nA: b\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi", "R");
}

#define ONE "GET /?foo HTTP/1.1\r\nHost: x\r\n\r\n"
#define TWO "POST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi"
#define THREE "HEAD /?baz HTTP/1.1\r\n\r\n"

static void requests_may_follow_one_another(void) {
    check_text(ONE ONE, ONE ONE, "RR");
    check_text(ONE TWO THREE ONE, ONE TWO THREE ONE, "RRHR");
    check_text(ONE "GET /c HTTP/1.1\r\nHost: t:81\r\n\r\n" TWO, ONE "GET https://h/c HTTP/1.1\r\n\r\n" TWO, "RRR");
    check_text("GET / HTTP/1.1\r\nHost: t:81\r\n\r\n" THREE, "GET http://h HTTP/1.1\r\n\r\n" THREE, "RH");
}

static void a_batch_is_used_again(void) {
    struct request_batch batch = {0};
    CHECK(!request_prepare(ONE TWO THREE, strlen(ONE TWO THREE), "t", &batch));
    CHECK_INT(3, batch.count);
    CHECK(!request_prepare(TWO, strlen(TWO), "t", &batch));
    CHECK_INT(1, batch.count);
    CHECK_INT(strlen(TWO), batch.len);
    CHECK(http_text_equals(batch.requests[0].path, "/b"));
    request_batch_free(&batch);
}

static void endless_batches_are_refused(void) {
    struct request_batch batch = {0};
    struct buffer text = {0};
    for (unsigned i = 0; i < BATCH_MAX; i++) buffer_text(&text, THREE);
    CHECK(!request_prepare(text.data, text.len, "t", &batch));
    CHECK_INT(BATCH_MAX, batch.count);
    buffer_text(&text, THREE);
    CHECK(request_prepare(text.data, text.len, "t", &batch));
    buffer_free(&text);
    request_batch_free(&batch);
}

static void anything_but_requests_is_refused(void) {
    static const char *const bad[] = {
        "", "nonsense", "GET /\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n", "GET  / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\nextra", ONE "GET /", ONE TWO "x", ONE "\r\n" ONE, "\r\n" ONE,
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc", "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nabc",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "GET / HTTP/1.1\r\nA b\r\n\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct request_batch batch = {0};
        size_t len = strlen(bad[i]);
        const char *wrong = request_prepare(guard_place(&page, bad[i], len), len, "t", &batch);
        if (!wrong) fprintf(stderr, "accepted: %s\n", bad[i]);
        CHECK(wrong);
        request_batch_free(&batch);
    }
}

int main(void) {
    page = guard_new(4096);
    origin_form_is_left_alone();
    absolute_form_becomes_origin_form();
    requests_may_follow_one_another();
    a_batch_is_used_again();
    endless_batches_are_refused();
    anything_but_requests_is_refused();
    return check_result();
}
