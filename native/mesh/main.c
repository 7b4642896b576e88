/* aefm-mesh: serves services of a resolved topology. Each has a thread; the first one's is the process's own, so that a
 * process of one service is one thread. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "json.h"
#include "mesh/service.h"

#define CONFIG_MAX (64u << 20)
#define USAGE                                                                    \
    "usage: aefm-mesh --config FILE   serve what FILE says, until SIGTERM\n"     \
    "       aefm-mesh --check FILE    only read it\n"                            \
    "       aefm-mesh --calibrate     iterations of work per microsecond, as JSON\n" \
    "       aefm-mesh --version\n"

static int read_file(const char *path, struct buffer *to) {
    char piece[65536];
    FILE *file = fopen(path, "rb");
    size_t n;
    if (!file) return -1;
    while ((n = fread(piece, 1, sizeof piece, file)) > 0 && to->len <= CONFIG_MAX) buffer_append(to, piece, n);
    int failed = ferror(file) || to->len > CONFIG_MAX;
    if (to->len > CONFIG_MAX) errno = EFBIG;
    fclose(file);
    return failed ? -1 : 0;
}

static int load(const char *path, struct config *config) {
    struct buffer text = {0};
    char message[512];
    int status = 0;
    if (read_file(path, &text) < 0) {
        fprintf(stderr, "%s: cannot be read: %s\n", path, strerror(errno));
        status = 2;
    } else if (config_read(text.len ? text.data : "", text.len, config, message, sizeof message) < 0) {
        fprintf(stderr, "%s:%s\n", path, message);
        status = 2;
    }
    buffer_free(&text);
    return status;
}

static void *serve(void *argument) {
    service_run(argument);
    return NULL;
}

/* Readable at SIGTERM or SIGINT, for as many as look. */
static int open_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* 10,000 connections are no reason to fail where the hard limit admits them. */
static void raise_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int run(const struct config *config) {
    int signals = open_signals(), status = 0;
    struct resolver *resolver = resolver_new();
    struct service *services = must_alloc(config->service_count, sizeof *services);
    raise_descriptors();
    for (uint32_t i = 0; i < config->service_count && !status; i++) {
        services[i].stop_fd = i ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : signals;
        if (service_open(&services[i], &config->services[i], resolver) < 0) status = 1;
    }
    if (!status && resolver_start(resolver) != 0) status = 1;
    for (uint32_t i = 1; i < config->service_count && !status; i++) {
        if (pthread_create(&services[i].thread, NULL, serve, &services[i]) != 0) status = 1;
    }
    if (status) return status;
    service_run(&services[0]);
    for (uint32_t i = 1; i < config->service_count; i++) eventfd_write(services[i].stop_fd, 1);
    for (uint32_t i = 1; i < config->service_count; i++) pthread_join(services[i].thread, NULL);
    return 0;
}

static int print_calibration(void) {
    struct calibration calibration = calibrate();
    struct json j = {.to = stdout};
    json_open(&j, NULL, '{');
    json_real(&j, "iterations_per_us", calibration.iterations_per_us, 6);
    json_real(&j, "spread", calibration.spread, 6);
    json_text(&j, "version", WORK_VERSION);
    json_close(&j, '}');
    putchar('\n');
    return 0;
}

int main(int argc, char **argv) {
    struct config config = {0};
    const char *command = argc > 1 ? argv[1] : "";
    if (argc == 2 && strcmp(command, "--calibrate") == 0) return print_calibration();
    if (argc == 2 && strcmp(command, "--version") == 0) return printf("aefm-mesh %s\n", AEFM_VERSION) < 0;
    bool check = strcmp(command, "--check") == 0;
    if (argc == 2 && strcmp(command, "--help") == 0) return fputs(USAGE, stdout) < 0;
    if (argc != 3 || !(check || strcmp(command, "--config") == 0)) {
        fputs(USAGE, stderr);
        return 2;
    }
    int status = load(argv[2], &config);
    if (!status && !check) status = run(&config);
    fflush(NULL);
    if (!check) _exit(status); /* a thread that still asks for a name would hold the exit up */
    config_free(&config);
    return status;
}
