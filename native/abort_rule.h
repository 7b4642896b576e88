/* --abort-on: is a run hopeless? Pure; whoever watches says from time to time how many requests have ended. */
#ifndef AEFM_ABORT_RULE_H
#define AEFM_ABORT_RULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ABORT_LOOKS 50u /* over the rule's time */

struct abort_rule {
    double share;     /* of failures among what was attempted */
    uint64_t over_ns; /* 0: no rule */
};

/* Parse "error_rate>50%:5s". Return NULL, or what was expected (static text). */
const char *abort_rule_parse(const char *text, struct abort_rule *rule);

/* How long to wait between looks, which are at most ABORT_LOOKS over the rule's time. */
uint64_t abort_look_ns(const struct abort_rule *rule);

/* The latest looks. Zero-initialised is empty. */
struct abort_watch {
    struct abort_look {
        uint64_t time_ns, attempted, failed; /* counts so far */
    } looks[ABORT_LOOKS + 2];
    size_t count;
    double error_rate; /* that decided */
};

/* Take in a look, not earlier than the last. Return whether more than the rule's share failed over all of its time. */
bool abort_applies(struct abort_watch *watch, const struct abort_rule *rule, uint64_t time_ns, uint64_t attempted,
                   uint64_t failed);

#endif
