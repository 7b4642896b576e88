/* Names that scripts and --tag-path give to requests, and the rules of --tag-path. No Lua, no I/O. */
#ifndef AEFM_TAGS_H
#define AEFM_TAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http_request.h"

#define TAGS_MAX 256     /* with the one of requests that have none */
#define TAG_NAME_MAX 64  /* bytes */
#define TAG_NONE 0u
#define TAG_BAD UINT32_MAX

/* A thread's names. Zero-initialised it has one: number 0, "untagged". */
struct tag_names {
    char (*names)[TAG_NAME_MAX + 1]; /* of the numbers from 1 */
    uint32_t count;                  /* of these */
};

/* Return the number of a name, which is learnt when it is new; TAG_BAD where it is not 1 to 64 printable bytes, or
 * where there are TAGS_MAX of them. */
uint32_t tag_number(struct tag_names *t, const char *name, size_t len);

const char *tag_name(const struct tag_names *t, uint32_t number);
void tag_names_free(struct tag_names *t);

/* "NAME=[METHOD ]/PATTERN": in the pattern `*` is any text without "/", `**` any text; the query is left aside. */
struct tag_rule {
    struct http_text name, method; /* the method is empty where every one is meant */
    const char *pattern;
};

/* Return NULL, or what was expected (static text). `rule` points into `text`. */
const char *tag_rule_parse(const char *text, struct tag_rule *rule);

bool tag_rule_matches(const struct tag_rule *rule, const struct request_line *request);

#endif
