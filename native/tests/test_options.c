/* The command line: what is accepted, and one clear line for what is not. */
#include "check.h"
#include "options.h"

#define MS 1000000ull
#define S (1000 * MS)
#define MAX_ARGS 32

/* Split `line` at blanks ('_' stands for a blank inside an argument) and parse it. */
static int parse(const char *line, struct options *o, char *error) {
    static char copy[512];
    static const char *argv[MAX_ARGS];
    int argc = 0;
    snprintf(copy, sizeof copy, "%s", line);
    argv[argc++] = "aefm-wrk";
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        for (char *c = word; *c; c++) {
            if (*c == '_') *c = ' ';
        }
        argv[argc++] = word;
    }
    error[0] = '\0';
    return options_parse(argc, argv, o, error, 256);
}

static void everything_is_taken(void) {
    struct options o;
    char error[256];
    CHECK_INT(0, parse("-t4 -c 10 -d30s -R0.5 --script=a.lua -H A:_b -H C:_d -LU --timeout 500ms --warmup 5s --json - "
                       "--seed 7 --start-at 123456789012345 http://h:81/p?q -- x --rate -y", &o, error));
    CHECK_TEXT("", error);
    CHECK_INT(4, o.threads);
    CHECK_INT(10, o.connections);
    CHECK_INT(30 * S, o.duration_ns);
    CHECK_NEAR(0.5, o.rate_rps, 0);
    CHECK_TEXT("a.lua", o.script);
    CHECK_INT(2, o.header_count);
    CHECK_TEXT("C: d", o.headers[1]);
    CHECK(o.print_latency && o.print_uncorrected && o.seeded);
    CHECK_INT(500 * MS, o.timeout_ns);
    CHECK_INT(5 * S, o.warmup_ns);
    CHECK_TEXT("-", o.json);
    CHECK_INT(7, o.seed);
    CHECK_INT(123456789012345, o.start_at_ns);
    CHECK_TEXT("h:81", o.url.authority);
    CHECK_INT(3, o.script_arg_count);
    CHECK_TEXT("-y", o.script_args[2]);
    CHECK_INT(ACTION_RUN, o.action);
    options_free(&o);
}

static void defaults_are_those_of_wrk2(void) {
    struct options o;
    char error[256];
    CHECK_INT(0, parse("http://h -R 10", &o, error));
    CHECK_INT(2, o.threads);
    CHECK_INT(10, o.connections);
    CHECK_INT(10, o.max_connections);
    CHECK_INT(10 * S, o.duration_ns);
    CHECK_INT(2 * S, o.timeout_ns);
    CHECK_INT(0, o.warmup_ns);
    options_free(&o);
}

static void mistakes_get_one_clear_line(void) {
    static const struct { const char *line, *error; } table[] = {
        {"http://h -R x", "--rate: expected a positive number, got 'x'"},
        {"http://h -R 0", "--rate: expected a positive number, got '0'"},
        {"http://h --rate=-5", "--rate: expected a positive number, got '-5'"},
        {"http://h -R 1e10", "--rate: expected a rate from 0.001 to 1e9, got '1e10'"},
        {"http://h -R", "--rate: expected a value"},
        {"http://h", "--rate: expected one (-R), the load is open-loop"},
        {"-R 1", "URL: expected one; see aefm-wrk --help"},
        {"http://h -R 1 -d 0", "--duration: expected a positive time such as 500ms, 2s, 1m, got '0'"},
        {"http://h -R 1 -d 3x", "--duration: expected a positive time such as 500ms, 2s, 1m, got '3x'"},
        {"http://h -R 1 --warmup soon", "--warmup: expected a time such as 500ms, 2s, 1m, got 'soon'"},
        {"http://h -R 1 -t 0", "--threads: expected a whole number from 1 to 1024, got '0'"},
        {"http://h -R 1 -c 1.5", "--connections: expected a whole number from 1 to 1000000, got '1.5'"},
        {"http://h -R 1 -t 4 -c 2", "--connections: expected at least as many as --threads"},
        {"http://h -R 1 -H nope", "--header: expected 'Name: value', got 'nope'"},
        {"http://h -R 1 --seed -1", "--seed: expected a whole number >= 0, got '-1'"},
        {"http://h -R 1 --start-at soon", "--start-at: expected nanoseconds of CLOCK_MONOTONIC, got 'soon'"},
        {"http://h -R 1 -c 20 --max-connections 19", "--max-connections: expected at least --connections"},
        {"http://h -R 1 --precision p100:5%",
         "--precision: expected a percentile and the width of its interval, such as p99:5%, got 'p100:5%'"},
        {"http://h --schedule 1:5s,2:5s --precision p99:5%",
         "--precision: expected one rate, what is due at several has no common percentile"},
        {"http://h -R 1 --abort-on goodput<1%:5s",
         "--abort-on: expected a condition and for how long it must hold, such as error_rate>50%:5s, got 'goodput<1%:5s'"},
        {"http://h -R 1 --requests -", "--requests: expected a file, got '-'"},
        {"http://h -R 1 -D even", "--dist: expected fixed, exp, norm or zipf, got 'even'"},
        {"http://h --schedule 5", "--schedule: expected phases such as 100:10s,200..800:60s, got '5'"},
        {"http://h --schedule 0:5s", "--schedule: expected a rate above 0, got '0:5s'"},
        {"http://h --schedule 5:5s -R 1", "--schedule: expected no --rate and --duration beside it"},
        {"http://h -R 1 --frobnicate=3", "--frobnicate: unknown option; see aefm-wrk --help"},
        {"http://h -R 1 -q", "-q: unknown option; see aefm-wrk --help"},
        {"http://h -R 1 --latency=yes", "--latency: expected no value, got 'yes'"},
        {"ftp://h -R 1", "URL: expected http[s]://host[:port][/path], got 'ftp://h'"},
        {"https://h -R 1 --insecure=yes", "--insecure: expected no value, got 'yes'"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct options o;
        char error[256];
        CHECK_INT(-1, parse(table[i].line, &o, error));
        CHECK_TEXT(table[i].error, error);
        options_free(&o);
    }
}

static void a_schedule_is_rate_and_duration(void) {
    struct options o;
    char error[256];
    CHECK_INT(0, parse("http://h --schedule 100:10s,0..200:20s -D exp", &o, error));
    CHECK_INT(30 * S, o.duration_ns);
    CHECK_NEAR(100, o.rate_rps, 1e-9);
    CHECK_INT(2, o.schedule.count);
    CHECK_INT(DISTRIBUTION_EXP, o.distribution);
    options_free(&o);
    CHECK_INT(0, parse("http://h -R 10 -d 3s", &o, error));
    CHECK_INT(1, o.schedule.count);
    CHECK_NEAR(30, schedule_count(&o.schedule, o.duration_ns), 1e-9);
    CHECK_INT(DISTRIBUTION_FIXED, o.distribution);
    options_free(&o);
}

static void check_needs_no_rate(void) {
    struct options o;
    char error[256];
    CHECK_INT(0, parse("--check -s a.lua http://h", &o, error));
    CHECK_INT(ACTION_CHECK, o.action);
    options_free(&o);
    CHECK_INT(0, parse("-v", &o, error));
    CHECK_INT(ACTION_VERSION, o.action);
    options_free(&o);
}

int main(void) {
    everything_is_taken();
    defaults_are_those_of_wrk2();
    mistakes_get_one_clear_line();
    a_schedule_is_rate_and_duration();
    check_needs_no_rate();
    return check_result();
}
