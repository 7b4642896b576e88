/* When a run is hopeless. */
#include "abort_rule.h"
#include "check.h"

#define MS 1000000ull
#define S (1000 * MS)

static const struct abort_rule half_over_5s = {0.5, 5 * S};

static void rules_are_a_share_and_a_time(void) {
    static const char *const wrong[] = {"", "error_rate", "error_rate>50%", "error_rate>50%:", "error_rate>50%:0s",
                                        "error_rate>100%:5s", "error_rate<50%:5s", "error_rate>x:5s", "errors>5%:5s",
                                        "error_rate>00000000000000000000000000000000050%:5s"};
    struct abort_rule rule;
    CHECK(abort_rule_parse("error_rate>50%:5s", &rule) == NULL);
    CHECK_NEAR(0.5, rule.share, 1e-9);
    CHECK_INT(5 * S, rule.over_ns);
    CHECK(abort_rule_parse("error_rate>0:500ms", &rule) == NULL);
    CHECK_NEAR(0, rule.share, 0);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) CHECK(abort_rule_parse(wrong[i], &rule) != NULL);
}

/* Ten requests end in each 100 ms, of which `failed` of them from `from_s` on. Return when the rule applied, in ms. */
static uint64_t applied_ms(const struct abort_rule *rule, uint64_t from_ms, uint64_t failed_of_ten, double *error_rate) {
    struct abort_watch watch = {0};
    uint64_t attempted = 0, failed = 0;
    abort_applies(&watch, rule, 0, 0, 0);
    for (uint64_t ms = 100; ms <= 60000; ms += 100) {
        attempted += 10;
        if (ms > from_ms) failed += failed_of_ten;
        bool applies = abort_applies(&watch, rule, ms * MS, attempted, failed);
        *error_rate = watch.error_rate;
        if (applies) return ms;
    }
    return 0;
}

static void it_applies_when_the_share_has_failed_over_the_time(void) {
    double rate;
    CHECK_INT(5000, applied_ms(&half_over_5s, 0, 10, &rate)); /* not before all of the time is over */
    CHECK_NEAR(1, rate, 1e-9);
    CHECK_INT(20000 + 2600, applied_ms(&half_over_5s, 20000, 10, &rate)); /* more than half of 5 s */
    CHECK_NEAR(0.52, rate, 1e-9);
    CHECK_INT(20000 + 4200, applied_ms(&half_over_5s, 20000, 6, &rate));
    CHECK_INT(0, applied_ms(&half_over_5s, 0, 5, &rate)); /* half is not more than half */
}

static void nothing_that_ended_is_nothing_that_failed(void) {
    struct abort_watch watch = {0};
    for (uint64_t ms = 0; ms < 60000; ms += 100) CHECK(!abort_applies(&watch, &half_over_5s, ms * MS, 7, 7));
}

static void looks_may_be_late_or_dense(void) {
    struct abort_watch watch = {0};
    CHECK(!abort_applies(&watch, &half_over_5s, 0, 0, 0));
    CHECK(!abort_applies(&watch, &half_over_5s, 1 * S, 100, 0));
    CHECK(abort_applies(&watch, &half_over_5s, 30 * S, 400, 300)); /* 300 of 300 since the look that is 5 s old */
    struct abort_watch dense = {0};
    for (uint64_t ms = 0; ms < 4000; ms++) CHECK(!abort_applies(&dense, &half_over_5s, ms * MS, ms, ms));
    CHECK_INT(100 * MS + 1, abort_look_ns(&half_over_5s));
    CHECK_INT(50 * MS, abort_look_ns(&(struct abort_rule){0.5, 1 * S}));
}

int main(void) {
    rules_are_a_share_and_a_time();
    it_applies_when_the_share_has_failed_over_the_time();
    nothing_that_ended_is_nothing_that_failed();
    looks_may_be_late_or_dense();
    return check_result();
}
