#include "program.h"
#include "random.h"
#include "target.h"

#define CHECK_REQUESTS 3

enum exit_status complain(const char *message, enum exit_status status) {
    fprintf(stderr, "aefm-wrk: %s\n", message);
    return status;
}

enum exit_status script_failed(const struct script *s) {
    fprintf(stderr, "%s\n", script_error(s) ? script_error(s) : "unknown script error");
    return EXIT_SCRIPT;
}

static enum exit_status resolve(struct program *p) {
    char error[URL_HOST_MAX + 128];
    p->report.targets = &p->run.targets;
    if (target_find(&p->options, &p->run.targets, error, sizeof error) == 0) return EXIT_DONE;
    return complain(error, EXIT_CONNECT);
}

static enum exit_status prepare_tls(struct program *p) {
    const struct options *o = &p->options;
    char error[256];
    if (!o->url.secure) return EXIT_DONE;
    p->run.tls = tls_client_new(o->url.host, o->insecure, error, sizeof error);
    return p->run.tls ? EXIT_DONE : complain(error, tls_is_built() ? EXIT_INTERNAL : EXIT_USAGE);
}

static enum exit_status prepare_scripts(struct program *p) {
    struct options *o = &p->options;
    p->script = script_open(o, random_mix(p->seed, UINT64_MAX));
    if (script_error(p->script)) return script_failed(p->script);
    p->workers = must_alloc(o->threads, sizeof *p->workers);
    for (uint32_t i = 0; i < o->threads; i++, p->prepared++) {
        worker_prepare(&p->workers[i], &p->run, i, script_open(o, random_mix(p->seed, i)));
    }
    for (uint32_t i = 0; i < o->threads; i++) {
        struct worker *w = &p->workers[i];
        if (script_error(w->script)) return script_failed(w->script);
        if (!script_setup(p->script, &w->script_thread)) return script_failed(p->script);
        if (!script_init(w->script, &w->script_thread, o) || !worker_learn_script(w)) return script_failed(w->script);
    }
    return EXIT_DONE;
}

enum exit_status program_check_scripts(struct program *p) {
    for (uint32_t i = 0; i < p->options.threads; i++) {
        struct worker *w = &p->workers[i];
        if (!script_check_types(w->script)) return script_failed(w->script);
        for (int n = 0; n < CHECK_REQUESTS; n++) {
            const char *text, *wrong;
            size_t len;
            if (!script_request(w->script, &text, &len)) return script_failed(w->script);
            wrong = request_prepare(text, len, p->options.url.authority, &w->batch);
            if (wrong && !script_blame_request(w->script, wrong)) return script_failed(w->script);
        }
    }
    return EXIT_DONE;
}

enum exit_status program_prepare(struct program *p) {
    enum exit_status status = prepare_tls(p);
    if (status == EXIT_DONE) status = resolve(p);
    return status == EXIT_DONE ? prepare_scripts(p) : status;
}
