#include "abort_rule.h"

#include <string.h>

#include "clock.h"
#include "quantity.h"

#define METRIC "error_rate>"
#define LOOK_LEAST_NS (50 * NS_PER_MS)

const char *abort_rule_parse(const char *text, struct abort_rule *rule) {
    static const char *const expected = "a condition and for how long it must hold, such as error_rate>50%:5s";
    char share[32];
    if (strncmp(text, METRIC, strlen(METRIC)) != 0) return expected;
    text += strlen(METRIC);
    size_t len = strcspn(text, ":");
    if (len >= sizeof share || text[len] != ':') return expected;
    memcpy(share, text, len);
    share[len] = '\0';
    if (!quantity_share(share, &rule->share) || !quantity_time(text + len + 1, &rule->over_ns)) return expected;
    return rule->share < 1 && rule->over_ns > 0 ? NULL : expected;
}

uint64_t abort_look_ns(const struct abort_rule *rule) {
    uint64_t between = rule->over_ns / ABORT_LOOKS + 1;
    return between > LOOK_LEAST_NS ? between : LOOK_LEAST_NS;
}

bool abort_applies(struct abort_watch *watch, const struct abort_rule *rule, uint64_t time_ns, uint64_t attempted,
                   uint64_t failed) {
    const size_t room = sizeof watch->looks / sizeof *watch->looks;
    struct abort_look *looks = watch->looks;
    /* The second oldest is enough where it lies far enough back. */
    while (watch->count > 1 && (watch->count == room || time_ns - looks[1].time_ns >= rule->over_ns)) {
        memmove(looks, looks + 1, --watch->count * sizeof *looks);
    }
    looks[watch->count++] = (struct abort_look){time_ns, attempted, failed};
    uint64_t ended = attempted - looks[0].attempted;
    if (time_ns - looks[0].time_ns < rule->over_ns || ended == 0) return false;
    watch->error_rate = (double)(failed - looks[0].failed) / (double)ended;
    return watch->error_rate > rule->share;
}
