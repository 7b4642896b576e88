/* Every request has one outcome, and the sums that reports show are consistent. */
#include "check.h"
#include "outcome.h"

static void statuses_have_classes(void) {
    CHECK_INT(OUTCOME_SUCCESS, outcome_of_status(200, VERDICT_NONE));
    CHECK_INT(OUTCOME_SUCCESS, outcome_of_status(399, VERDICT_NONE));
    CHECK_INT(OUTCOME_4XX, outcome_of_status(400, VERDICT_NONE));
    CHECK_INT(OUTCOME_4XX, outcome_of_status(499, VERDICT_NONE));
    CHECK_INT(OUTCOME_5XX, outcome_of_status(503, VERDICT_NONE));
    CHECK_INT(OUTCOME_OTHER_STATUS, outcome_of_status(999, VERDICT_NONE));
}

static void the_script_overrides_the_status(void) {
    CHECK_INT(OUTCOME_SUCCESS, outcome_of_status(404, VERDICT_TRUE));
    CHECK_INT(OUTCOME_MISMATCH, outcome_of_status(200, VERDICT_FALSE));
    CHECK_INT(OUTCOME_MISMATCH, outcome_of_status(500, VERDICT_FALSE));
}

static void sums_follow_the_definitions(void) {
    struct tally a = {0}, b = {0};
    uint64_t expected_sent = 0, expected_sum = 0;
    for (int o = 0; o < OUTCOMES; o++) {
        for (int n = 0; n <= o; n++) tally_value(&(o % 2 ? &a : &b)->latency[o], 1000, 2000);
        expected_sum += (uint64_t)o + 1;
        if (o != OUTCOME_CONNECT_ERROR && o != OUTCOME_UNSENT) expected_sent += (uint64_t)o + 1;
    }
    a.offered = 40;
    b.offered = 26;
    tally_merge(&a, &b);
    CHECK_INT(expected_sum, tally_sum(&a));
    CHECK_INT(a.offered, tally_sum(&a));
    CHECK_INT(expected_sent, tally_sent(&a));
    CHECK_INT(1 + 2 + 3 + 4 + 5, tally_achieved(&a));
    CHECK_INT(1, tally_count(&a, OUTCOME_SUCCESS));
    CHECK_INT(1, a.latency[OUTCOME_SUCCESS]->max_us);
    tally_free(&a);
    tally_free(&b);
}

static void negative_latency_counts_as_zero(void) {
    struct tally t = {0};
    tally_value(&t.pacer_lag, 2000, 1000);
    CHECK_INT(0, t.pacer_lag->max_us);
    CHECK_INT(1, t.pacer_lag->count);
    tally_free(&t);
}

int main(void) {
    statuses_have_classes();
    the_script_overrides_the_status();
    sums_follow_the_definitions();
    negative_latency_counts_as_zero();
    return check_result();
}
