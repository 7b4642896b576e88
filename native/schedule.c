#include "schedule.h"

#include <math.h>
#include <string.h>

#include "clock.h"
#include "quantity.h"

struct schedule schedule_constant(double rate_rps, uint64_t duration_ns) {
    return (struct schedule){.phases = {{rate_rps, rate_rps, duration_ns}}, .count = 1};
}

static double seconds(uint64_t ns) { return (double)ns / (double)NS_PER_S; }

static double phase_count(const struct phase *p) {
    return (p->from_rps + p->to_rps) / 2.0 * seconds(p->duration_ns);
}

static bool parse_rate(const char *text, double *rate) { return quantity_number(text, rate) && *rate <= 1e9; }

/* "100:10s" or "200..800:60s", in place. */
static bool parse_phase(char *text, struct phase *p) {
    char *time = strchr(text, ':'), *to = strstr(text, "..");
    if (!time || !quantity_time(time + 1, &p->duration_ns) || p->duration_ns == 0) return false;
    *time = '\0';
    if (to && to < time) *to = '\0';
    if (!parse_rate(text, &p->from_rps)) return false;
    p->to_rps = p->from_rps;
    return !to || to > time || parse_rate(to + 2, &p->to_rps);
}

const char *schedule_parse(const char *text, struct schedule *s) {
    static const char *const expected = "phases such as 100:10s,200..800:60s";
    double requests = 0;
    *s = (struct schedule){0};
    for (const char *at = text;; at++) {
        char phase[64];
        size_t len = strcspn(at, ",");
        if (len == 0 || len >= sizeof phase) return expected;
        if (s->count == SCHEDULE_PHASES - 1) return "at most 63 phases";
        memcpy(phase, at, len);
        phase[len] = '\0';
        if (!parse_phase(phase, &s->phases[s->count])) return expected;
        requests += phase_count(&s->phases[s->count++]);
        at += len;
        if (*at == '\0') break;
    }
    if (schedule_duration(s) > UINT64_C(1000000000) * NS_PER_S) return "a shorter schedule";
    return requests > 0 ? NULL : "a rate above 0";
}

bool schedule_precede(struct schedule *s, uint64_t duration_ns) {
    struct phase *first = &s->phases[0];
    if (first->from_rps == first->to_rps) {
        first->duration_ns += duration_ns;
        return true;
    }
    if (s->count == SCHEDULE_PHASES) return false;
    memmove(first + 1, first, s->count++ * sizeof *first);
    *first = (struct phase){first[1].from_rps, first[1].from_rps, duration_ns};
    return true;
}

bool schedule_is_constant(const struct schedule *s) {
    return s->count == 1 && s->phases[0].from_rps == s->phases[0].to_rps;
}

uint64_t schedule_duration(const struct schedule *s) {
    uint64_t sum = 0;
    for (size_t i = 0; i < s->count; i++) sum += s->phases[i].duration_ns;
    return sum;
}

double schedule_count(const struct schedule *s, uint64_t time_ns) {
    double before = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct phase *p = &s->phases[i];
        if (time_ns < p->duration_ns) {
            double t = seconds(time_ns), slope = (p->to_rps - p->from_rps) / seconds(p->duration_ns);
            return before + (p->from_rps + slope * t / 2.0) * t;
        }
        before += phase_count(p);
        time_ns -= p->duration_ns;
    }
    return before + s->phases[s->count - 1].to_rps * seconds(time_ns);
}

/* When a phase has asked for `requests`, from its start: a t + b t^2 / 2 = requests, solved without cancellation. */
static double time_within(const struct phase *p, double requests) {
    double slope = (p->to_rps - p->from_rps) / seconds(p->duration_ns);
    if (slope == 0) return requests * ((double)NS_PER_S / p->from_rps);
    double root = p->from_rps * p->from_rps + 2.0 * slope * requests;
    return 2.0 * requests / (p->from_rps + sqrt(root > 0 ? root : 0)) * (double)NS_PER_S;
}

uint64_t schedule_time(const struct schedule *s, double requests) {
    uint64_t start = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct phase *p = &s->phases[i];
        double within = phase_count(p);
        if (requests < within) return start + (uint64_t)nearbyint(requests > 0 ? time_within(p, requests) : 0);
        requests -= within;
        start += p->duration_ns;
    }
    double rate = s->phases[s->count - 1].to_rps;
    double offset = rate > 0 ? nearbyint(requests * ((double)NS_PER_S / rate)) : (double)SCHEDULE_NEVER;
    return offset < (double)(SCHEDULE_NEVER - start) ? start + (uint64_t)offset : SCHEDULE_NEVER;
}
