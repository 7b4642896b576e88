#include "precision.h"

#include <stdlib.h>
#include <string.h>

#include "quantity.h"

#define WAITING_MAX 0.01

const char *precision_parse(const char *text, struct precision_rule *rule) {
    static const char *const expected = "a percentile and the width of its interval, such as p99:5%";
    char number[32];
    size_t len = *text == 'p' ? strcspn(text + 1, ":") : 0;
    if (len == 0 || len >= sizeof number || text[1 + len] != ':') return expected;
    memcpy(number, text + 1, len);
    number[len] = '\0';
    if (!quantity_number(number, &rule->percentile) || !quantity_share(text + len + 2, &rule->share)) return expected;
    bool fine = rule->percentile > 0 && rule->percentile < 100 && rule->share > 0 && rule->share < 1;
    return fine ? NULL : expected;
}

uint64_t precision_next_look(uint64_t time_ns) {
    uint64_t look = PRECISION_FIRST_NS;
    while (look <= time_ns) look *= 2;
    return look;
}

static bool queue_is_short(const struct record *records, size_t count, uint64_t duration_ns) {
    size_t waiting = 0;
    for (size_t i = 0; i < count; i++) waiting += records[i].waited && records[i].due_ns + records[i].late_ns > duration_ns;
    return (double)waiting <= WAITING_MAX * (double)count;
}

bool precision_reached(const struct precision_rule *rule, const struct record *records, size_t count,
                       uint64_t duration_ns) {
    if (!queue_is_short(records, count, duration_ns)) return false;
    struct trend trend = trend_test(records, count, duration_ns);
    if (trend.known && !trend.stationary) return false;
    struct sample s = sample_take(records, count, SAMPLE_ALL_TAGS);
    struct estimate e = sample_percentile(&s, rule->percentile);
    sample_free(&s);
    return estimate_width(&e) <= rule->share;
}
