/* Steps and ramps: counts and times are inverse, exact where a hand can tell. */
#include "check.h"
#include "schedule.h"

#define S 1000000000ull

static struct schedule parsed(const char *text) {
    struct schedule s;
    const char *expected = schedule_parse(text, &s);
    if (expected) CHECK_TEXT("", expected);
    return s;
}

static void counts_follow_the_table(void) {
    static const struct { const char *text; double at_s, requests; } table[] = {
        {"100:10s", 0, 0},          {"100:10s", 2.5, 250},         {"100:10s,200:5s", 12, 1400},
        {"0..100:10s", 10, 500},    {"0..100:10s", 5, 125},        {"100..0:10s", 10, 500},
        {"10:1s,0:5s,10:1s", 4, 10}, {"10:1s,0:5s,10:1s", 6.5, 15}, {"200..800:60s", 60, 30000},
        {"0.5:4s", 4, 2},           {"1k..2k:2s", 1, 1250},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct schedule s = parsed(table[i].text);
        CHECK_NEAR(table[i].requests, schedule_count(&s, (uint64_t)(table[i].at_s * 1e9)), 1e-6);
    }
}

static void times_follow_the_table(void) {
    static const struct { const char *text; double requests; uint64_t ns; } table[] = {
        {"3:10s", 1, 333333333}, {"3:10s", 3, S},                {"100:10s,200:5s", 1400, 12 * S},
        {"0..100:10s", 125, 5 * S}, {"100..0:10s", 500, SCHEDULE_NEVER}, {"10:1s,0:5s,10:1s", 10, 6 * S},
        {"100:10s,200:5s", 1000, 10 * S}, {"100:1s", 1000, 10 * S},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct schedule s = parsed(table[i].text);
        CHECK_INT(table[i].ns, schedule_time(&s, table[i].requests));
    }
}

static void times_and_counts_are_inverse(void) {
    struct schedule s = parsed("0..1000:10s,1000:3s,1000..10:7s,5:9s");
    uint64_t before = 0;
    for (double requests = 0.5; requests < 11000; requests += 7.3) {
        uint64_t time = schedule_time(&s, requests);
        CHECK(time >= before);
        CHECK_NEAR(requests, schedule_count(&s, time), 1e-4);
        before = time;
    }
}

static void a_warm_up_runs_at_the_first_rate(void) {
    struct schedule step = parsed("100:10s,200:5s"), ramp = parsed("200..800:60s");
    CHECK(schedule_precede(&step, 2 * S));
    CHECK_INT(2, step.count);
    CHECK_NEAR(1200, schedule_count(&step, 12 * S), 1e-9);
    CHECK(schedule_precede(&ramp, 2 * S));
    CHECK_INT(2, ramp.count);
    CHECK_NEAR(400, schedule_count(&ramp, 2 * S), 1e-9);
    CHECK_NEAR(30400, schedule_count(&ramp, 62 * S), 1e-6);
}

static void what_is_no_schedule_is_refused(void) {
    static const char *const bad[] = {"", "5", ":5s", "5:", "5:5s,", ",5:5s", "5:0", "5..:5s", "..5:5s", "5:5s..6",
                                      "-5:5s", "5:5q", "1e10:5s", "5:5s;6:5s"};
    struct schedule s;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (!schedule_parse(bad[i], &s)) CHECK_TEXT("refused", bad[i]);
    }
    CHECK(schedule_parse("0:5s", &s) != NULL);
    char many[64 * 5 + 1] = "";
    for (int i = 0; i < 64; i++) strcat(many, i ? ",1:1s" : "1:1s");
    CHECK_TEXT("at most 63 phases", schedule_parse(many, &s));
}

int main(void) {
    counts_follow_the_table();
    times_follow_the_table();
    times_and_counts_are_inverse();
    a_warm_up_runs_at_the_first_rate();
    what_is_no_schedule_is_refused();
    return check_result();
}
