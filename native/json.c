#include "json.h"

#include <inttypes.h>
#include <math.h>

/* The length of a valid UTF-8 sequence at `c` (NUL-terminated), or 0. */
static int utf8_length(const unsigned char *c) {
    int more = c[0] < 0x80 ? 0 : c[0] >= 0xc2 && c[0] < 0xe0 ? 1 : (c[0] & 0xf0) == 0xe0 ? 2
             : c[0] >= 0xf0 && c[0] < 0xf5 ? 3 : -1;
    for (int i = 1; i <= more; i++) {
        if ((c[i] & 0xc0) != 0x80) return 0;
    }
    bool overlong = (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xf0 && c[1] < 0x90);
    bool outside = (c[0] == 0xed && c[1] >= 0xa0) || (c[0] == 0xf4 && c[1] >= 0x90);
    return overlong || outside ? 0 : more + 1;
}

/* Bytes that are not UTF-8 become U+FFFD: a report must parse whatever the command line held. */
static void put_string(FILE *to, const char *text) {
    fputc('"', to);
    for (const unsigned char *c = (const unsigned char *)text; *c;) {
        int length = utf8_length(c);
        if (*c == '"' || *c == '\\') fprintf(to, "\\%c", *c);
        else if (*c < 0x20 || *c == 0x7f) fprintf(to, "\\u%04x", (unsigned)*c);
        else if (length == 0) fputs("\\ufffd", to);
        else fwrite(c, 1, (size_t)length, to);
        c += length ? length : 1;
    }
    fputc('"', to);
}

static void start(struct json *j, const char *name) {
    if (j->comma) fputc(',', j->to);
    j->comma = true;
    if (name) {
        put_string(j->to, name);
        fputc(':', j->to);
    }
}

void json_open(struct json *j, const char *name, char bracket) {
    start(j, name);
    fputc(bracket, j->to);
    j->comma = false;
}

void json_close(struct json *j, char bracket) {
    fputc(bracket, j->to);
    j->comma = true;
}

void json_text(struct json *j, const char *name, const char *value) {
    start(j, name);
    put_string(j->to, value);
}

void json_uint(struct json *j, const char *name, uint64_t value) {
    start(j, name);
    fprintf(j->to, "%" PRIu64, value);
}

void json_int(struct json *j, const char *name, int64_t value) {
    start(j, name);
    fprintf(j->to, "%" PRId64, value);
}

void json_bool(struct json *j, const char *name, bool value) {
    start(j, name);
    fputs(value ? "true" : "false", j->to);
}

void json_real(struct json *j, const char *name, double value, int decimals) {
    if (!isfinite(value)) {
        json_null(j, name);
        return;
    }
    start(j, name);
    fprintf(j->to, "%.*f", decimals, value);
}

void json_null(struct json *j, const char *name) {
    start(j, name);
    fputs("null", j->to);
}
