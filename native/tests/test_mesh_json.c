/* The JSON reader takes what RFC 8259 allows, and nothing else, and never looks beyond its input. */
#include "check.h"
#include "guard.h"
#include "mesh/json_reader.h"

static struct guard guard;

static const char *read_guarded(const char *text, struct json_document *document) {
    size_t len = strlen(text);
    return json_read(guard_place(&guard, text, len), len, document);
}

static void values_come_as_they_were_written(void) {
    struct json_document d;
    CHECK(read_guarded(" {\"a\": [1, -2.5e3, \"x\\n\\u00e9\\ud83d\\ude00\"], \"b\": {}, \"t\": true, \"n\": null} ", &d) == NULL);
    const struct json_value *a = json_member(d.root, "a");
    CHECK_INT(4, d.root->count);
    CHECK_INT(3, a->count);
    CHECK(a->first->number == 1 && a->first->next->number == -2500);
    CHECK_TEXT("-2.5e3", a->first->next->text);
    CHECK_TEXT("x\n\xc3\xa9\xf0\x9f\x98\x80", a->first->next->next->text);
    CHECK_INT(JSON_OBJECT, json_member(d.root, "b")->kind);
    CHECK_INT(JSON_TRUE, json_member(d.root, "t")->kind);
    CHECK_INT(JSON_NULL, json_member(d.root, "n")->kind);
    CHECK(json_member(d.root, "none") == NULL);
    json_document_free(&d);
}

static void what_is_no_json_is_refused(void) {
    static const char *const texts[] = {
        "", " ", "{", "[", "[1", "[1,", "[1,]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "nul", "tru", "01", "-", "1.",
        ".5", "1e", "+1", "1e999", "\"", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\\udc00\"",
        "\"\\u0000\"", "\"\n\"", "\"\x80\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "1 2", "[1] x", "'a'", "NaN",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct json_document d;
        if (read_guarded(texts[i], &d) == NULL) {
            fprintf(stderr, "taken: %s\n", texts[i]);
            check_failures++;
        }
        json_document_free(&d);
    }
}

static void every_prefix_of_a_document_is_refused(void) {
    static const char text[] = "{\"k\": [1.5e-3, \"\\u20ac\", {\"t\": true}, false, null]}";
    for (size_t len = 0; len < sizeof text - 1; len++) {
        struct json_document d;
        CHECK(json_read(guard_place(&guard, text, len), len, &d) != NULL);
        json_document_free(&d);
    }
}

static void depth_is_bounded(void) {
    char deep[2 * JSON_DEPTH_MAX + 3];
    struct json_document d;
    for (int levels = JSON_DEPTH_MAX; levels <= JSON_DEPTH_MAX + 1; levels++) {
        memset(deep, '[', (size_t)levels);
        memset(deep + levels, ']', (size_t)levels);
        CHECK_INT(levels > JSON_DEPTH_MAX, json_read(deep, 2 * (size_t)levels, &d) != NULL);
        json_document_free(&d);
    }
}

static void nothing_is_no_document(void) {
    struct json_document d;
    CHECK_TEXT("expected a value", json_read(NULL, 0, &d));
    CHECK_INT(0, d.wrong_at);
    json_document_free(&d);
}

static void where_it_went_wrong_is_said(void) {
    struct json_document d;
    CHECK_TEXT("expected a value", read_guarded("[1, x]", &d));
    CHECK_INT(4, d.wrong_at);
    json_document_free(&d);
}

int main(void) {
    guard = guard_new(4096);
    values_come_as_they_were_written();
    what_is_no_json_is_refused();
    every_prefix_of_a_document_is_refused();
    depth_is_bounded();
    nothing_is_no_document();
    where_it_went_wrong_is_said();
    return check_result();
}
