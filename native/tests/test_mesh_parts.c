/* What a service is made of, part by part: draws, caches, timers, trace contexts. */
#include <stdlib.h>

#include "check.h"
#include "mesh/lru.h"
#include "mesh/sampler.h"
#include "mesh/timers.h"
#include "mesh/trace_context.h"

#define DRAWS 200000

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Median and mean of many draws, in ms, are those of the distribution within 2 %. */
static void check_wait(struct wait wait, double median_ms, double mean_ms) {
    static double drawn[DRAWS];
    struct rng rng;
    double sum = 0;
    rng_seed(&rng, 7);
    for (int i = 0; i < DRAWS; i++) sum += drawn[i] = (double)wait_draw_ns(&wait, &rng) / 1e6;
    qsort(drawn, DRAWS, sizeof *drawn, ascending);
    CHECK_NEAR(median_ms, drawn[DRAWS / 2], 0.02 * median_ms);
    CHECK_NEAR(mean_ms, sum / DRAWS, 0.02 * mean_ms);
}

static void waits_have_the_distribution_of_the_file(void) {
    double quantiles[] = {1, 2, 10};
    check_wait((struct wait){.kind = WAIT_CONSTANT, .a = 2}, 2, 2);
    check_wait((struct wait){.kind = WAIT_UNIFORM, .a = 1, .b = 3}, 2, 2);
    check_wait((struct wait){.kind = WAIT_EXPONENTIAL, .a = 2}, 1.3863, 2);
    check_wait((struct wait){.kind = WAIT_LOGNORMAL, .a = 2, .b = 0.5}, 2, 2.2663);
    check_wait((struct wait){.kind = WAIT_PARETO, .a = 2, .b = 3}, 2.5198, 3);
    check_wait((struct wait){.kind = WAIT_EMPIRICAL, .quantiles_ms = quantiles, .count = 3}, 2, 3.75);
}

/* Shares of ranks are rank^-skew / their sum. */
static void check_zipf(uint64_t count, double skew) {
    uint64_t seen[20] = {0};
    double sum = 0;
    struct rng rng;
    struct zipf zipf = zipf_new(count, skew);
    rng_seed(&rng, 11);
    for (uint64_t rank = 1; rank <= count; rank++) sum += pow((double)rank, -skew);
    for (int i = 0; i < DRAWS; i++) {
        uint64_t rank = zipf_draw(&zipf, &rng);
        CHECK(rank >= 1 && rank <= count);
        if (rank < 20) seen[rank]++;
    }
    for (uint64_t rank = 1; rank <= count && rank < 6; rank++) {
        CHECK_NEAR(pow((double)rank, -skew) / sum, (double)seen[rank] / DRAWS, 0.005);
    }
}

static void ranks_have_their_shares(void) {
    check_zipf(1, 0);
    check_zipf(5, 0);
    check_zipf(1000, 0.8);
    check_zipf(1000, 1);
    check_zipf(1000000, 1.2);
}

static void a_seed_repeats(void) {
    struct rng a, b;
    rng_seed(&a, 5);
    rng_seed(&b, 5);
    for (int i = 0; i < 100; i++) CHECK(rng_next(&a) == rng_next(&b));
}

static void the_least_recently_used_key_is_forgotten(void) {
    struct lru *lru = lru_new(3);
    for (uint64_t key = 1; key <= 3; key++) lru_add(lru, key);
    CHECK(lru_touch(lru, 1));
    lru_add(lru, 4);
    CHECK(!lru_touch(lru, 2));
    CHECK(lru_touch(lru, 1) && lru_touch(lru, 3) && lru_touch(lru, 4));
    lru_add(lru, 4);
    CHECK_INT(3, lru_count(lru));
    lru_free(lru);
}

/* Beside a list that is searched from end to end. */
static void a_cache_does_as_a_simple_one_does(void) {
    enum { CAPACITY = 150 };
    uint64_t keys[CAPACITY], count = 0;
    struct lru *lru = lru_new(CAPACITY);
    struct rng rng;
    rng_seed(&rng, 3);
    for (int i = 0; i < 20000; i++) {
        uint64_t key = rng_next(&rng) % 300, at = 0;
        while (at < count && keys[at] != key) at++;
        CHECK_INT(at < count, lru_touch(lru, key));
        if (at == count) lru_add(lru, key);
        if (at == count && count < CAPACITY) count++;
        if (at == CAPACITY) at--;
        memmove(keys + 1, keys, at * sizeof *keys);
        keys[0] = key;
    }
    lru_free(lru);
}

struct alarm {
    struct timer timer;
    uint64_t *order;
    int *count;
};

static void ring(void *owner) {
    struct alarm *alarm = owner;
    alarm->order[(*alarm->count)++] = alarm->timer.when_ns;
}

static void timers_fire_in_order_and_only_when_set(void) {
    enum { COUNT = 500 };
    static struct alarm alarms[COUNT];
    static uint64_t order[COUNT];
    struct timers timers = {0};
    struct rng rng;
    int fired = 0, unset = 0;
    rng_seed(&rng, 9);
    CHECK(timers_next_ns(&timers) == UINT64_MAX);
    for (int i = 0; i < COUNT; i++) {
        alarms[i] = (struct alarm){.timer = {.fire = ring, .owner = &alarms[i]}, .order = order, .count = &fired};
        timer_set(&timers, &alarms[i].timer, rng_next(&rng) % 1000);
    }
    for (int i = 0; i < COUNT; i += 3, unset++) timer_unset(&timers, &alarms[i].timer);
    for (int i = 1; i < COUNT; i += 3) timer_set(&timers, &alarms[i].timer, rng_next(&rng) % 2000);
    timers_fire(&timers, 999);
    for (int i = 0; i < fired; i++) CHECK(order[i] <= 999);
    CHECK(timers_next_ns(&timers) > 999);
    timers_fire(&timers, 2000);
    CHECK_INT(COUNT - unset, fired);
    for (int i = 1; i < fired; i++) CHECK(order[i - 1] <= order[i]);
    timers_free(&timers);
}

static struct http_text text(const char *of) { return (struct http_text){of, strlen(of)}; }

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"

static void a_traceparent_survives_a_round_trip(void) {
    struct span_context context;
    char written[TRACEPARENT_LEN + 1] = {0};
    CHECK(traceparent_read(text("00-" TRACE "-" SPAN "-01"), &context));
    traceparent_write(&context, written);
    CHECK_TEXT("00-" TRACE "-" SPAN "-01", written);
    CHECK(traceparent_read(text("00-" TRACE "-" SPAN "-00"), &context) && !context.sampled);
    CHECK(traceparent_read(text("01-" TRACE "-" SPAN "-01-more"), &context));
}

static void a_malformed_traceparent_is_none(void) {
    static const char *const headers[] = {
        "", "00-" TRACE "-" SPAN, "00-" TRACE "-" SPAN "-01-more", "ff-" TRACE "-" SPAN "-01", "01-" TRACE "-" SPAN "-01more",
        "00-00000000000000000000000000000000-" SPAN "-01", "00-" TRACE "-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01", "00-" TRACE "-" SPAN "-0g",
    };
    struct span_context context;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) CHECK(!traceparent_read(text(headers[i]), &context));
}

static void b3_is_understood(void) {
    struct span_context context;
    struct b3_headers single = {0}, several = {0}, none = {0};
    b3_take(&single, text("b3"), text(TRACE "-" SPAN "-0-05e3ac9a4f6e3b90"));
    CHECK(b3_read(&single, &context) && !context.sampled && context.trace[0] == 0x0a);
    single.single = text(TRACE "-" SPAN "-d");
    CHECK(b3_read(&single, &context) && context.sampled);
    single.single = text("0");
    CHECK(!b3_read(&single, &context));
    b3_take(&several, text("X-B3-TraceId"), text(SPAN));
    b3_take(&several, text("X-B3-SpanId"), text(SPAN));
    CHECK(b3_read(&several, &context) && context.sampled && context.trace[0] == 0 && context.trace[8] == 0xb7);
    b3_take(&several, text("X-B3-Sampled"), text("0"));
    CHECK(b3_read(&several, &context) && !context.sampled);
    b3_take(&several, text("X-B3-Flags"), text("1"));
    CHECK(b3_read(&several, &context) && context.sampled);
    CHECK(!b3_read(&none, &context));
}

int main(void) {
    waits_have_the_distribution_of_the_file();
    ranks_have_their_shares();
    a_seed_repeats();
    the_least_recently_used_key_is_forgotten();
    a_cache_does_as_a_simple_one_does();
    timers_fire_in_order_and_only_when_set();
    a_traceparent_survives_a_round_trip();
    a_malformed_traceparent_is_none();
    b3_is_understood();
    return check_result();
}
