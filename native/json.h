/* Write JSON to a stream: commas and escapes are taken care of, nesting is the caller's. No allocation. */
#ifndef AEFM_JSON_H
#define AEFM_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *to;
    bool comma; /* a value was written on this level */
};

/* In an object, give the member's name; in an array, NULL. */
void json_open(struct json *j, const char *name, char bracket);
void json_close(struct json *j, char bracket);
void json_text(struct json *j, const char *name, const char *value);
void json_uint(struct json *j, const char *name, uint64_t value);
void json_int(struct json *j, const char *name, int64_t value);
void json_bool(struct json *j, const char *name, bool value);

/* Write a finite number with `decimals`; anything else is null. */
void json_real(struct json *j, const char *name, double value, int decimals);
void json_null(struct json *j, const char *name);

#endif
