/* Any command line (its words end in NUL): taken, and then it makes sense, or refused in one line. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "options.h"

#define WORDS_MAX 64

static void check_taken(const struct options *o) {
    if (o->action == ACTION_HELP || o->action == ACTION_VERSION) return;
    if (!o->url_text || !*o->url.host || !*o->url.port || !*o->url.authority) abort();
    if (o->threads == 0 || o->connections == 0 || o->duration_ns == 0 || o->timeout_ns == 0) abort();
    if (o->action != ACTION_RUN) return;
    if (o->connections < o->threads || o->schedule.count == 0) abort();
    double count = schedule_count(&o->schedule, o->duration_ns);
    if (!isfinite(o->rate_rps) || !isfinite(count) || count < 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *words[WORDS_MAX] = {"aefm-wrk"};
    struct options options;
    char error[512] = "", *text = memcpy(must_alloc(size + 1, 1), data, size);
    int count = 1;
    for (size_t at = 0; at < size && count < WORDS_MAX; at += strlen(text + at) + 1) words[count++] = text + at;
    if (options_parse(count, words, &options, error, sizeof error) == 0) check_taken(&options);
    else if (!*error) abort();
    options_free(&options);
    free(text);
    return 0;
}
