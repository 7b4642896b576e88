/* The command line. Pure: no exit, no output, no globals. */
#ifndef AEFM_OPTIONS_H
#define AEFM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abort_rule.h"
#include "pacer.h"
#include "precision.h"
#include "schedule.h"
#include "tags.h"
#include "url.h"

#define LIMITS_MAX 32
#define DRAIN_WITHOUT_LIMIT UINT64_C(2000000000000000000) /* each request has its timeout */

enum action { ACTION_RUN, ACTION_CHECK, ACTION_HELP, ACTION_VERSION };

/* Where connections go instead of to the URL's host. */
struct target {
    const char *unix_path; /* NULL: to the host and port of `url` */
    struct url url;
};

struct options {
    enum action action;
    uint32_t threads;
    uint32_t connections;
    uint32_t max_connections; /* at least `connections` */
    double rate_rps; /* mean over the window */
    uint64_t duration_ns;
    struct schedule schedule; /* of the window */
    enum distribution distribution;
    uint64_t warmup_ns;
    uint64_t timeout_ns;
    uint64_t drain_ns;
    uint64_t busy_poll_ns;
    bool keep_awake;
    bool insecure; /* take any certificate */
    struct precision_rule precision;
    struct abort_rule abort_on;
    uint64_t start_at_ns; /* CLOCK_MONOTONIC; 0: as soon as the connections are open */
    bool seeded;
    uint64_t seed;
    bool print_latency;
    bool print_uncorrected;
    const char *script;
    const char *json; /* file, "-" or NULL */
    const char *requests; /* file or NULL */
    uint64_t limits_us[LIMITS_MAX];
    size_t limit_count;
    const char **headers;
    size_t header_count;
    struct tag_rule *tag_rules;
    size_t tag_rule_count;
    struct target *targets;
    size_t target_count;
    const char *url_text;
    struct url url;
    const char **script_args;
    size_t script_arg_count;
};

/* Parse argv. Return 0, or -1 with one line (without the program's name) in `error`. Strings point into argv;
 * options_free() frees the arrays. */
int options_parse(int argc, const char *const *argv, struct options *options, char *error, size_t error_size);
void options_free(struct options *options);

extern const char options_usage[];

#endif
