#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "clock.h"
#include "option_values.h"

const char options_usage[] =
    "Usage: aefm-wrk <options> <url> [-- <script arguments>]\n"
    "  -c, --connections <N>  connections to keep open (10)\n"
    "      --max-connections <N>  open up to so many when requests are due and none is free (as many as -c)\n"
    "  -d, --duration    <T>  measured window (10s)\n"
    "  -t, --threads     <N>  threads to use (2)\n"
    "  -R, --rate        <R>  requests per second of all threads together: 0.5, 200, 10k, 1M\n"
    "  -D, --dist        <D>  how requests follow one another: fixed, exp (Poisson), norm, zipf (fixed)\n"
    "      --schedule    <S>  steps and ramps instead of -R and -d: 100:10s,200..800:60s\n"
    "  -s, --script      <S>  Lua script (wrk's interface)\n"
    "  -H, --header      <H>  header to add to each request, 'Name: value'; may be given again\n"
    "  -L, --latency          print the detailed latency distribution\n"
    "  -U, --u_latency        print it also without the time that requests waited to be sent\n"
    "  -B, --batch_latency    accepted for wrk2's sake; there is one request in flight per connection\n"
    "  -T, --timeout     <T>  longest wait for one response, from its actual send (2s)\n"
    "      --drain       <T>  longest wait for what is in flight at the window's end (the timeout)\n"
    "      --limits  <T,...>  latencies of which to tell how many requests exceeded them: 250ms,1s\n"
    "      --precision <P:S>  end the window once a percentile's interval is so narrow: p99:5%\n"
    "      --abort-on  <C:T>  end a hopeless run: error_rate>50%:5s\n"
    "      --warmup      <T>  load before the measured window (0)\n"
    "      --json     <FILE>  write the results as JSON; - for standard output, then without the text\n"
    "      --requests <FILE>  write a binary record of each request\n"
    "      --seed        <N>  make arrivals, and math.random of the script, reproducible\n"
    "      --start-at   <NS>  begin at this CLOCK_MONOTONIC time, in nanoseconds\n"
    "      --busy-poll   <T>  wake this long before each request is due and spin (0)\n"
    "      --keep-awake       spin at idle priority on one core per thread, so that none falls asleep\n"
    "      --insecure         take any certificate of an https target\n"
    "      --target    <ADDR>  connect there instead, host:port or unix:/path; may be given again: all are used\n"
    "      --tag-path  <RULE>  account apart for requests of a path, 'search=GET /hotels*'; may be given again\n"
    "      --check            run setup, init and request of the script without any network, and exit\n"
    "  -v, --version          print the version and exit\n"
    "  -h, --help             print this and exit\n"
    "Times: 10 (seconds), 500us, 500ms, 2s, 1m, 1h. See docs/aefm-wrk.md.\n";

const struct option_spec option_specs[OPTION_IDS] = {
    [CONNECTIONS] = {"connections", 'c', true}, [DURATION] = {"duration", 'd', true},
    [MAX_CONNECTIONS] = {"max-connections", 0, true},
    [THREADS] = {"threads", 't', true},         [RATE] = {"rate", 'R', true},
    [DIST] = {"dist", 'D', true},               [SCHEDULE] = {"schedule", 0, true},
    [SCRIPT] = {"script", 's', true},           [HEADER] = {"header", 'H', true},
    [LATENCY] = {"latency", 'L', false},        [U_LATENCY] = {"u_latency", 'U', false},
    [BATCH] = {"batch_latency", 'B', false},    [TIMEOUT] = {"timeout", 'T', true},
    [WARMUP] = {"warmup", 0, true},             [DRAIN] = {"drain", 0, true},               [LIMITS] = {"limits", 0, true},
    [JSON] = {"json", 0, true},                 [REQUESTS] = {"requests", 0, true},
    [SEED] = {"seed", 0, true},                 [START_AT] = {"start-at", 0, true},
    [BUSY_POLL] = {"busy-poll", 0, true},       [KEEP_AWAKE] = {"keep-awake", 0, false},
    [PRECISION] = {"precision", 0, true},       [ABORT_ON] = {"abort-on", 0, true},
    [TAG_PATH] = {"tag-path", 0, true},         [TARGET] = {"target", 0, true},
    [CHECK] = {"check", 0, false},              [VERSION] = {"version", 'v', false},
    [HELP] = {"help", 'h', false},              [INSECURE] = {"insecure", 0, false},
};

static bool missing_value(struct parse *p, enum option_id id) {
    snprintf(p->error, p->error_size, "--%s: expected a value", option_specs[id].name);
    return false;
}

static bool take_long(struct parse *p, const char *text, const char *next, bool *used_next) {
    size_t len = strcspn(text, "=");
    for (int id = 0; id < OPTION_IDS; id++) {
        if (strlen(option_specs[id].name) != len || strncmp(option_specs[id].name, text, len) != 0) continue;
        const char *value = text[len] == '=' ? text + len + 1 : NULL;
        if (!option_specs[id].takes_value && value) {
            snprintf(p->error, p->error_size, "--%s: expected no value, got '%s'", option_specs[id].name, value);
            return false;
        }
        *used_next = option_specs[id].takes_value && !value;
        if (*used_next && !next) return missing_value(p, (enum option_id)id);
        return option_take(p, (enum option_id)id, value ? value : next);
    }
    snprintf(p->error, p->error_size, "--%.*s: unknown option; see aefm-wrk --help", (int)len, text);
    return false;
}

static bool take_letters(struct parse *p, const char *letters, const char *next, bool *used_next) {
    for (const char *c = letters; *c; c++) {
        int id = 0;
        while (id < OPTION_IDS && option_specs[id].letter != *c) id++;
        if (id == OPTION_IDS) {
            snprintf(p->error, p->error_size, "-%c: unknown option; see aefm-wrk --help", *c);
            return false;
        }
        if (option_specs[id].takes_value) {
            *used_next = c[1] == '\0';
            if (*used_next && !next) return missing_value(p, (enum option_id)id);
            return option_take(p, (enum option_id)id, c[1] ? c + 1 : next);
        }
        if (!option_take(p, (enum option_id)id, NULL)) return false;
    }
    return true;
}

static void take_positional(struct options *o, const char *text) {
    if (!o->url_text) o->url_text = text;
    else o->script_args[o->script_arg_count++] = text;
}

/* One schedule, whether it was given as such or as rate and duration. */
static const char *settle_schedule(struct options *o) {
    if (o->schedule.count) {
        if (o->rate_rps || o->duration_ns) return "--schedule: expected no --rate and --duration beside it";
        o->duration_ns = schedule_duration(&o->schedule);
        o->rate_rps = schedule_count(&o->schedule, o->duration_ns) * (double)NS_PER_S / (double)o->duration_ns;
        return NULL;
    }
    if (!o->duration_ns) o->duration_ns = 10 * NS_PER_S;
    if (!o->rate_rps) return o->action == ACTION_RUN ? "--rate: expected one (-R), the load is open-loop" : NULL;
    o->schedule = schedule_constant(o->rate_rps, o->duration_ns);
    return NULL;
}

static bool check_whole(struct parse *p) {
    struct options *o = p->options;
    if (o->action == ACTION_HELP || o->action == ACTION_VERSION) return true;
    const char *wrong = o->url_text ? settle_schedule(o) : "URL: expected one; see aefm-wrk --help";
    if (!wrong && o->action == ACTION_RUN && o->precision.percentile && !schedule_is_constant(&o->schedule)) {
        wrong = "--precision: expected one rate, what is due at several has no common percentile";
    }
    if (!wrong && o->action == ACTION_RUN && o->connections < o->threads) {
        wrong = "--connections: expected at least as many as --threads";
    }
    if (!o->max_connections) o->max_connections = o->connections;
    if (!wrong && o->max_connections < o->connections) wrong = "--max-connections: expected at least --connections";
    if (wrong) {
        snprintf(p->error, p->error_size, "%s", wrong);
        return false;
    }
    const char *expected = url_parse(o->url_text, &o->url);
    if (expected) snprintf(p->error, p->error_size, "URL: %s, got '%s'", expected, o->url_text);
    return !expected;
}

int options_parse(int argc, const char *const *argv, struct options *options, char *error, size_t error_size) {
    *options = (struct options){.threads = 2, .connections = 10, .timeout_ns = 2 * NS_PER_S,
                                .drain_ns = DRAIN_WITHOUT_LIMIT};
    options->headers = must_alloc((size_t)argc, sizeof *options->headers);
    options->tag_rules = must_alloc((size_t)argc, sizeof *options->tag_rules);
    options->targets = must_alloc((size_t)argc, sizeof *options->targets);
    options->script_args = must_alloc((size_t)argc, sizeof *options->script_args);
    struct parse p = {options, error, error_size};
    bool only_positional = false;
    for (int i = 1; i < argc; i++) {
        const char *text = argv[i], *next = i + 1 < argc ? argv[i + 1] : NULL;
        bool fine = true, used_next = false;
        if (only_positional || text[0] != '-' || text[1] == '\0') take_positional(options, text);
        else if (strcmp(text, "--") == 0) only_positional = true;
        else if (text[1] == '-') fine = take_long(&p, text + 2, next, &used_next);
        else fine = take_letters(&p, text + 1, next, &used_next);
        if (!fine) return -1;
        i += used_next;
    }
    return check_whole(&p) ? 0 : -1;
}

void options_free(struct options *options) {
    free(options->headers);
    free(options->tag_rules);
    free(options->targets);
    free(options->script_args);
}
