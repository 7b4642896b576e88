/* Names get numbers, and rules name requests by method and path. */
#include "check.h"
#include "tagged.h"

static void names_are_numbered_once(void) {
    struct tag_names t = {0};
    CHECK_INT(TAG_NONE, tag_number(&t, "untagged", 8));
    CHECK_INT(1, tag_number(&t, "search", 6));
    CHECK_INT(2, tag_number(&t, "sea", 3));
    CHECK_INT(1, tag_number(&t, "search", 6));
    CHECK_TEXT("sea", tag_name(&t, 2));
    CHECK_TEXT("untagged", tag_name(&t, TAG_NONE));
    tag_names_free(&t);
}

static void names_are_short_printable_and_few(void) {
    struct tag_names t = {0};
    char name[16], longest[TAG_NAME_MAX + 2];
    memset(longest, 'x', sizeof longest);
    CHECK_INT(TAG_BAD, tag_number(&t, "", 0));
    CHECK_INT(TAG_BAD, tag_number(&t, "a\nb", 3));
    CHECK_INT(TAG_BAD, tag_number(&t, "a\0b", 3));
    CHECK_INT(TAG_BAD, tag_number(&t, longest, TAG_NAME_MAX + 1));
    CHECK_INT(1, tag_number(&t, longest, TAG_NAME_MAX));
    for (int i = 2; i < TAGS_MAX; i++) {
        snprintf(name, sizeof name, "%d", i);
        CHECK_INT(i, tag_number(&t, name, strlen(name)));
    }
    CHECK_INT(TAG_BAD, tag_number(&t, "one more", 8));
    CHECK_INT(2, tag_number(&t, "2", 1));
    tag_names_free(&t);
}

static bool matches(const char *rule_text, const char *method, const char *path) {
    struct tag_rule rule;
    const char *wrong = tag_rule_parse(rule_text, &rule);
    struct request_line request = {.method = {method, strlen(method)}, .path = {path, strlen(path)}};
    CHECK(!wrong);
    return !wrong && tag_rule_matches(&rule, &request);
}

static void rules_match_method_and_path(void) {
    static const struct { const char *rule, *request; bool expected; } table[] = {
        {"a=/hotels", "/hotels", true},         {"a=/hotels", "/hotels?x=1", true},   {"a=/hotels", "/hotels/", false},
        {"a=/hotels*", "/hotels2", true},       {"a=/hotels*", "/hotels/2", false},   {"a=/u/*/posts", "/u/7/posts", true},
        {"a=/u/*/posts", "/u/posts", false},    {"a=/u/*/posts", "/u/7/8/posts", false}, {"a=/**", "/u/7/8", true},
        {"a=/u/**/z", "/u/a/b/z", true},        {"a=/u/**/z", "/u/a/b", false},       {"a=**", "/", true},
        {"a=/**/x*y/z", "/a/xb/c/xay/z", true}, {"a=/**/x*y/z", "/a/xb/c/xa/y/z", false},
        {"a=/*a*b", "/xaxxb", true},            {"a=/*a*b", "/xaxxbc", false},        {"a=/", "/", true}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (matches(table[i].rule, "GET", table[i].request) != table[i].expected) {
            fprintf(stderr, "%s: %s\n", table[i].rule, table[i].request);
            check_failures++;
        }
    }
    CHECK(matches("a=GET /x", "GET", "/x"));
    CHECK(!matches("a=GET /x", "GETS", "/x"));
    CHECK(!matches("a=GET /x", "POST", "/x"));
}

static void bad_rules_are_refused(void) {
    static const char *const bad[] = {"", "a", "=/x", "a=", "a=x", "a=GET", "a=GET x", "a\n=/x"};
    struct tag_rule rule;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK(tag_rule_parse(bad[i], &rule) != NULL);
}

static void threads_are_merged_by_name(void) {
    struct tag_names names = {0}, first = {0}, second = {0};
    struct tagged all = {0}, a = {0}, b = {0};
    tally_value(&tagged_tally(&a, tag_number(&first, "x", 1))->latency[OUTCOME_SUCCESS], 0, 1000);
    tag_number(&second, "never", 5);
    tally_value(&tagged_tally(&b, tag_number(&second, "x", 1))->latency[OUTCOME_5XX], 0, 1000);
    tagged_merge(&all, &names, &a, &first);
    tagged_merge(&all, &names, &b, &second);
    CHECK_INT(3, all.count);
    CHECK_INT(0, tally_sum(&all.tallies[TAG_NONE]));
    CHECK_INT(2, tally_sum(&all.tallies[1]));
    CHECK_TEXT("never", tag_name(&names, 2));
    tagged_free(&all);
    tagged_free(&a);
    tagged_free(&b);
    tag_names_free(&names);
    tag_names_free(&first);
    tag_names_free(&second);
}

int main(void) {
    names_are_numbered_once();
    names_are_short_printable_and_few();
    rules_match_method_and_path();
    bad_rules_are_refused();
    threads_are_merged_by_name();
    return check_result();
}
