#include "option_values.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "quantity.h"

#define UNIX_PATH_LONGEST 107

static bool refuse(struct parse *p, enum option_id id, const char *expected, const char *got) {
    snprintf(p->error, p->error_size, "--%s: expected %s, got '%s'", option_specs[id].name, expected, got);
    return false;
}

static bool take_count(struct parse *p, enum option_id id, const char *text, uint32_t most, uint32_t *count) {
    char expected[64];
    double number;
    snprintf(expected, sizeof expected, "a whole number from 1 to %u", most);
    if (!quantity_number(text, &number) || number < 1 || number > most || number != floor(number)) {
        return refuse(p, id, expected, text);
    }
    *count = (uint32_t)number;
    return true;
}

static bool take_time(struct parse *p, enum option_id id, const char *text, bool zero_is_fine, uint64_t *ns) {
    if (quantity_time(text, ns) && (*ns > 0 || zero_is_fine)) return true;
    return refuse(p, id, zero_is_fine ? "a time such as 500ms, 2s, 1m" : "a positive time such as 500ms, 2s, 1m", text);
}

static bool take_header(struct parse *p, const char *text) {
    size_t name = strcspn(text, ":");
    bool fine = name > 0 && text[name] == ':' && strcspn(text, " \t") > name && !strpbrk(text, "\r\n");
    if (!fine) return refuse(p, HEADER, "'Name: value'", text);
    p->options->headers[p->options->header_count++] = text;
    return true;
}

static bool take_tag_path(struct parse *p, const char *text) {
    struct options *o = p->options;
    const char *expected = tag_rule_parse(text, &o->tag_rules[o->tag_rule_count++]);
    return expected ? refuse(p, TAG_PATH, expected, text) : true;
}

static bool take_target(struct parse *p, const char *text) {
    struct target *target = &p->options->targets[p->options->target_count++];
    if (strncmp(text, "unix:", 5) == 0) {
        target->unix_path = text + 5;
        bool fits = text[5] && strlen(text + 5) <= UNIX_PATH_LONGEST;
        return fits ? true : refuse(p, TARGET, "a path of 1 to 107 bytes after 'unix:'", text);
    }
    bool fine = !url_parse_authority(text, strlen(text), &target->url) && target->url.has_port;
    return fine ? true : refuse(p, TARGET, "host:port or unix:/path", text);
}

static bool take_rate(struct parse *p, const char *text) {
    double *rate = &p->options->rate_rps;
    if (!quantity_number(text, rate) || *rate <= 0) return refuse(p, RATE, "a positive number", text);
    return *rate >= 1e-3 && *rate <= 1e9 ? true : refuse(p, RATE, "a rate from 0.001 to 1e9", text);
}

static bool take_dist(struct parse *p, const char *text) {
    p->options->distribution = distribution_named(text);
    return p->options->distribution < DISTRIBUTIONS ? true : refuse(p, DIST, "fixed, exp, norm or zipf", text);
}

static bool take_schedule(struct parse *p, const char *text) {
    const char *expected = schedule_parse(text, &p->options->schedule);
    return expected ? refuse(p, SCHEDULE, expected, text) : true;
}

static bool take_precision(struct parse *p, const char *text) {
    const char *expected = precision_parse(text, &p->options->precision);
    return expected ? refuse(p, PRECISION, expected, text) : true;
}

static bool take_abort_on(struct parse *p, const char *text) {
    const char *expected = abort_rule_parse(text, &p->options->abort_on);
    return expected ? refuse(p, ABORT_ON, expected, text) : true;
}

static bool take_limits(struct parse *p, const char *text) {
    struct options *o = p->options;
    for (const char *at = text;; at++) {
        char one[32];
        uint64_t ns;
        size_t len = strcspn(at, ",");
        if (o->limit_count == LIMITS_MAX) return refuse(p, LIMITS, "at most 32 times", text);
        if (len >= sizeof one) return refuse(p, LIMITS, "times such as 250ms,1s", text);
        memcpy(one, at, len);
        one[len] = '\0';
        if (!quantity_time(one, &ns) || ns == 0) return refuse(p, LIMITS, "times such as 250ms,1s", text);
        o->limits_us[o->limit_count++] = ns_to_us(ns);
        at += len;
        if (*at == '\0') return true;
    }
}

bool option_take(struct parse *p, enum option_id id, const char *value) {
    struct options *o = p->options;
    switch (id) {
    case CONNECTIONS: return take_count(p, id, value, 1000000, &o->connections);
    case MAX_CONNECTIONS: return take_count(p, id, value, 1000000, &o->max_connections);
    case THREADS: return take_count(p, id, value, 1024, &o->threads);
    case DURATION: return take_time(p, id, value, false, &o->duration_ns);
    case TIMEOUT: return take_time(p, id, value, false, &o->timeout_ns);
    case DRAIN: return take_time(p, id, value, true, &o->drain_ns);
    case PRECISION: return take_precision(p, value);
    case ABORT_ON: return take_abort_on(p, value);
    case LIMITS: return take_limits(p, value);
    case WARMUP: return take_time(p, id, value, true, &o->warmup_ns);
    case BUSY_POLL: return take_time(p, id, value, true, &o->busy_poll_ns);
    case RATE: return take_rate(p, value);
    case DIST: return take_dist(p, value);
    case SCHEDULE: return take_schedule(p, value);
    case HEADER: return take_header(p, value);
    case TARGET: return take_target(p, value);
    case TAG_PATH: return take_tag_path(p, value);
    case SCRIPT: o->script = value; break;
    case JSON: o->json = value; break;
    case REQUESTS:
        o->requests = value;
        return strcmp(value, "-") != 0 ? true : refuse(p, id, "a file", value);
    case SEED:
        o->seeded = true;
        return quantity_whole(value, &o->seed) ? true : refuse(p, id, "a whole number >= 0", value);
    case START_AT:
        return quantity_whole(value, &o->start_at_ns) ? true : refuse(p, id, "nanoseconds of CLOCK_MONOTONIC", value);
    case LATENCY: o->print_latency = true; break;
    case U_LATENCY: o->print_latency = o->print_uncorrected = true; break;
    case KEEP_AWAKE: o->keep_awake = true; break;
    case INSECURE: o->insecure = true; break;
    case CHECK: o->action = ACTION_CHECK; break;
    case VERSION: o->action = ACTION_VERSION; break;
    case HELP: o->action = ACTION_HELP; break;
    default: break;
    }
    return true;
}
