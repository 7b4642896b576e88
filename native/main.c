/* aefm-wrk: parse, prepare, start the threads, watch the window, report. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "awake.h"
#include "clock.h"
#include "collect.h"
#include "program.h"
#include "random.h"
#include "requests_file.h"
#include "target.h"
#include "watch.h"

#define START_LEAD_NS (2 * NS_PER_MS)
#define ARRIVALS_STREAM (UINT64_MAX - 1) /* of the seed; threads have the streams from 0 on */

/* The one thing a signal handler can reach. */
static struct run *signalled_run;
static volatile sig_atomic_t signals_seen;

static void on_signal(int signal_number) {
    int saved = errno;
    if (signals_seen++) _exit(128 + signal_number);
    if (signalled_run) run_stop(signalled_run);
    errno = saved;
}

static void handle_signals(struct run *run) {
    struct sigaction action = {.sa_handler = on_signal};
    signalled_run = run;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, (unsigned long)SIGTERM, 0UL, 0UL, 0UL);
}

static void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static uint32_t established(const struct program *p) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < p->options.threads; i++) sum += p->workers[i].idle.count;
    return sum;
}

/* Set a flag that the threads wait for. */
static void release(struct run *run, bool *flag) {
    pthread_mutex_lock(&run->lock);
    *flag = true;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

static void set_schedule(struct program *p) {
    struct run *run = &p->run;
    uint64_t now = now_ns(), wanted = p->options.start_at_ns;
    run->start_ns = wanted > now ? wanted : now + START_LEAD_NS;
    if (wanted && wanted <= now) {
        fprintf(stderr, "aefm-wrk: --start-at: that time passed %.3f s ago, starting now\n",
                (double)(now - wanted) / (double)NS_PER_S);
    }
    run->schedule = p->options.schedule;
    schedule_precede(&run->schedule, p->options.warmup_ns);
    run->seed = random_mix(p->seed, ARRIVALS_STREAM);
    run->window_start_ns = run->start_ns + p->options.warmup_ns;
    run->window_end_ns = run->window_start_ns + p->options.duration_ns;
    atomic_store(&run->end_ns, run->window_end_ns);
}

static enum exit_status refuse_unreachable(struct program *p) {
    char target[URL_HOST_MAX + 16], message[URL_HOST_MAX + 256];
    const char *failure = strerror(ETIMEDOUT);
    for (uint32_t i = 0; i < p->options.threads; i++) {
        if (p->workers[i].connect_failure) failure = p->workers[i].connect_failure;
    }
    target_text(&p->options, target, sizeof target);
    snprintf(message, sizeof message, "%s: %s", target, failure);
    return complain(message, EXIT_CONNECT);
}

/* Start the threads; they open their connections and wait. */
static uint32_t start_workers(struct program *p) {
    sigset_t blocked, old;
    uint32_t started = 0;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &blocked, &old);
    while (started < p->options.threads &&
           pthread_create(&p->workers[started].thread, NULL, worker_main, &p->workers[started]) == 0) {
        started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return started;
}

static enum exit_status run_load(struct program *p) {
    struct run *run = &p->run;
    uint32_t started = start_workers(p);
    enum exit_status status = EXIT_DONE;
    while (atomic_load(&run->ready) < started) {
        uint64_t value;
        if (read(run->progress_fd, &value, sizeof value) < 0 && errno != EINTR) break;
    }
    for (uint32_t i = 0; i < started && status == EXIT_DONE; i++) {
        if (p->workers[i].broken) status = complain(strerror(p->workers[i].broken), EXIT_INTERNAL);
    }
    if (started < p->options.threads) status = complain("cannot start a thread", EXIT_INTERNAL);
    else if (status == EXIT_DONE && established(p) == 0 && !atomic_load(&run->stop)) status = refuse_unreachable(p);
    set_schedule(p);
    if (status == EXIT_DONE && p->options.keep_awake) p->awake = awake_begin(p->options.threads);
    atomic_store(&run->cancelled, status != EXIT_DONE);
    release(run, &run->may_go);
    if (status == EXIT_DONE) watch_window(&p->report, run, p->workers);
    release(run, &run->may_leave);
    for (uint32_t i = 0; i < started; i++) pthread_join(p->workers[i].thread, NULL);
    awake_end(p->awake);
    for (uint32_t i = 0; i < started; i++) {
        if (status == EXIT_DONE && script_error(p->workers[i].script)) status = script_failed(p->workers[i].script);
    }
    return status;
}

static enum exit_status call_done(struct program *p) {
    const struct report *r = &p->report;
    const struct tally *t = &r->total;
    struct histogram *empty = must_alloc(1, sizeof *empty);
    struct script_summary summary = {
        .duration_us = r->duration_ns / NS_PER_US,
        .requests = tally_achieved(t),
        .bytes = t->bytes_read,
        .connect = tally_count(t, OUTCOME_CONNECT_ERROR),
        .read = tally_count(t, OUTCOME_READ_ERROR) + tally_count(t, OUTCOME_MALFORMED),
        .status = tally_count(t, OUTCOME_4XX) + tally_count(t, OUTCOME_5XX) + tally_count(t, OUTCOME_OTHER_STATUS),
        .timeout = tally_count(t, OUTCOME_TIMEOUT),
        .latency = t->latency[OUTCOME_SUCCESS] ? t->latency[OUTCOME_SUCCESS] : empty,
        .rates = r->rates};
    bool fine = !script_has(p->script, "done") || script_done(p->script, &summary);
    fflush(stdout);
    free(empty);
    return fine ? EXIT_DONE : script_failed(p->script);
}

static enum exit_status print_results(struct program *p) {
    bool text = !p->json || p->json != stdout;
    if (!report_adds_up(&p->report)) return complain("internal error: offered is not the sum of outcomes", EXIT_INTERNAL);
    if (text) report_text(&p->report, stdout);
    enum exit_status status = call_done(p);
    if (p->json) {
        report_json(&p->report, p->json);
        if (fflush(p->json) != 0 || ferror(p->json)) return complain("--json: cannot write the results", EXIT_INTERNAL);
    }
    if (p->requests && requests_write(&p->report, p->requests) != 0) {
        return complain("--requests: cannot write the records", EXIT_INTERNAL);
    }
    return status;
}

/* Say on standard error what keeps the figures from being trusted. */
static enum exit_status warn(const struct program *p) {
    const struct self_check *check = &p->report.check;
    for (size_t i = 0; i < check->count; i++) {
        const struct check *c = &check->checks[i];
        if (!c->ok) fprintf(stderr, "aefm-wrk: %s: %s\n", c->warning ? "warning" : "self-check", c->message);
    }
    return check->ok ? EXIT_DONE : EXIT_UNTRUSTED;
}

static void announce(const struct options *o) {
    uint64_t seconds = o->duration_ns / NS_PER_S;
    if (o->duration_ns % NS_PER_S) printf("Running %.0fms test @ %s\n", (double)o->duration_ns / 1e6, o->url_text);
    else if (seconds % 3600 == 0) printf("Running %luh test @ %s\n", (unsigned long)(seconds / 3600), o->url_text);
    else if (seconds % 60 == 0) printf("Running %lum test @ %s\n", (unsigned long)(seconds / 60), o->url_text);
    else printf("Running %lus test @ %s\n", (unsigned long)seconds, o->url_text);
    printf("  %u threads and %u connections\n", o->threads, o->connections);
    fflush(stdout);
}

static enum exit_status open_file(const char *option, const char *name, FILE **file) {
    if (!name) return EXIT_DONE;
    *file = fopen(name, "w");
    if (*file) return EXIT_DONE;
    fprintf(stderr, "aefm-wrk: %s: cannot write '%s': %s\n", option, name, strerror(errno));
    return EXIT_USAGE;
}

static enum exit_status open_files(struct program *p) {
    const struct options *o = &p->options;
    if (o->json && strcmp(o->json, "-") == 0) p->json = stdout;
    else if (open_file("--json", o->json, &p->json) != EXIT_DONE) return EXIT_USAGE;
    return open_file("--requests", o->requests, &p->requests);
}

static enum exit_status open_run(struct program *p) {
    struct run *run = &p->run;
    run->options = &p->options;
    run->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    run->progress_fd = eventfd(0, EFD_CLOEXEC);
    pthread_mutex_init(&run->lock, NULL);
    pthread_cond_init(&run->changed, NULL);
    if (run->wake_fd < 0 || run->progress_fd < 0) return complain(strerror(errno), EXIT_INTERNAL);
    return p->options.action == ACTION_CHECK ? EXIT_DONE : open_files(p);
}

static enum exit_status run_program(struct program *p) {
    enum exit_status status = open_run(p);
    p->seed = p->options.seeded ? p->options.seed : random_mix(now_ns(), (uint64_t)getpid()) >> 12;
    p->report.seed = p->seed;
    p->report.options = &p->options;
    if (status == EXIT_DONE) status = program_prepare(p);
    if (status == EXIT_DONE && p->options.action == ACTION_CHECK) return program_check_scripts(p);
    if (status != EXIT_DONE) return status;
    raise_descriptor_limit();
    handle_signals(&p->run);
    if (p->json != stdout || !p->json) announce(&p->options);
    status = run_load(p);
    if (status != EXIT_DONE) return status;
    collect(&p->report, &p->run, p->workers);
    status = print_results(p);
    return status == EXIT_DONE ? warn(p) : status;
}

static void free_program(struct program *p) {
    for (uint32_t i = 0; i < p->prepared; i++) worker_free(&p->workers[i]);
    free(p->workers);
    script_close(p->script);
    tally_free(&p->report.total);
    tagged_free(&p->report.tagged);
    tag_names_free(&p->report.tags);
    free(p->report.rates);
    free(p->report.records);
    free(p->report.completed);
    queue_track_free(&p->report.waiting);
    observation_free(&p->report.at_start);
    observation_free(&p->report.at_end);
    if (p->json && p->json != stdout) fclose(p->json);
    if (p->requests) fclose(p->requests);
    if (p->run.wake_fd > 0) close(p->run.wake_fd);
    if (p->run.progress_fd > 0) close(p->run.progress_fd);
    free(p->run.targets.at);
    tls_client_free(p->run.tls);
    options_free(&p->options);
}

int main(int argc, char **argv) {
    static struct program program;
    struct program *p = &program;
    char error[512];
    const char *const *arguments = (const char *const *)argv;
    p->report.argc = argc;
    p->report.argv = arguments;
    setvbuf(stdout, NULL, _IOLBF, 0);
    enum exit_status status = EXIT_DONE;
    if (options_parse(argc, arguments, &p->options, error, sizeof error) != 0) {
        status = complain(error, EXIT_USAGE);
    } else if (p->options.action == ACTION_HELP) {
        fputs(options_usage, stdout);
    } else if (p->options.action == ACTION_VERSION) {
        printf("aefm-wrk %s (pytest-aefm, %s)\n", AEFM_VERSION, "wrk2's command line and scripts");
    } else {
        status = run_program(p);
    }
    signalled_run = NULL;
    free_program(p);
    return (int)status;
}
