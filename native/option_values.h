/* Shared between options.c (the words of a command line) and option_values.c (what each option's value means). */
#ifndef AEFM_OPTION_VALUES_H
#define AEFM_OPTION_VALUES_H

#include "options.h"

enum option_id {
    CONNECTIONS, MAX_CONNECTIONS, DURATION, THREADS, RATE, DIST, SCHEDULE,
    SCRIPT, HEADER,
    LATENCY, U_LATENCY, BATCH,
    TIMEOUT, DRAIN, LIMITS, WARMUP,
    JSON, REQUESTS,
    SEED, START_AT, BUSY_POLL, KEEP_AWAKE,
    PRECISION, ABORT_ON,
    TARGET, INSECURE, TAG_PATH,
    CHECK, VERSION, HELP,
    OPTION_IDS
};

struct option_spec {
    const char *name;
    char letter;
    bool takes_value;
};

extern const struct option_spec option_specs[OPTION_IDS];

struct parse {
    struct options *options;
    char *error;
    size_t error_size;
};

/* Take an option with its value, NULL where it has none. Return false with the message in p->error. */
bool option_take(struct parse *p, enum option_id id, const char *value);

#endif
