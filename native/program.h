/* One execution of aefm-wrk, and how it ends. */
#ifndef AEFM_PROGRAM_H
#define AEFM_PROGRAM_H

#include <stdio.h>

#include "report.h"
#include "run.h"

enum exit_status {
    EXIT_DONE = 0,
    EXIT_USAGE = 1,
    EXIT_SCRIPT = 2,
    EXIT_CONNECT = 3,
    EXIT_INTERNAL = 4,
    EXIT_UNTRUSTED = 5
};

struct program {
    struct options options;
    struct run run;
    struct script *script; /* the main interpreter: setup() and done() */
    struct worker *workers;
    struct awake *awake; /* NULL without --keep-awake */
    uint32_t prepared;
    uint64_t seed;
    FILE *json;
    FILE *requests;
    struct report report;
};

/* Say one line on standard error; return `status`. */
enum exit_status complain(const char *message, enum exit_status status);

/* A script's error stands alone, "file.lua:LINE: message", for editors and for the plugin. */
enum exit_status script_failed(const struct script *s);

/* Find the target, and open all interpreters; then run setup() and init() for each thread, before any thread starts. */
enum exit_status program_prepare(struct program *p);

/* Have each script make a few requests, without any network. */
enum exit_status program_check_scripts(struct program *p);

#endif
