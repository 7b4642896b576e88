#include "tags.h"

#include <stdlib.h>
#include <string.h>

#include "buffer.h"

static const char untagged[] = "untagged";

static bool is_name(const char *name, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) return false;
    }
    return len >= 1 && len <= TAG_NAME_MAX;
}

const char *tag_name(const struct tag_names *t, uint32_t number) {
    return number == TAG_NONE ? untagged : t->names[number - 1];
}

uint32_t tag_number(struct tag_names *t, const char *name, size_t len) {
    for (uint32_t i = 0; i <= t->count; i++) {
        const char *known = tag_name(t, i);
        if (strlen(known) == len && memcmp(known, name, len) == 0) return i;
    }
    if (!is_name(name, len) || t->count + 1 == TAGS_MAX) return TAG_BAD;
    t->names = must_realloc(t->names, t->count + 1, sizeof *t->names);
    memcpy(t->names[t->count], name, len);
    t->names[t->count][len] = '\0';
    return ++t->count;
}

void tag_names_free(struct tag_names *t) {
    free(t->names);
    *t = (struct tag_names){0};
}

const char *tag_rule_parse(const char *text, struct tag_rule *rule) {
    static const char expected[] = "'NAME=/pattern' or 'NAME=METHOD /pattern'";
    const char *equals = strchr(text, '=');
    if (!equals) return expected;
    size_t method = strcspn(equals + 1, " ");
    const char *blank = equals + 1 + method;
    *rule = (struct tag_rule){.name = {text, (size_t)(equals - text)}, .pattern = equals + 1};
    if (*blank) {
        rule->method = (struct http_text){equals + 1, method};
        rule->pattern = blank + 1;
    }
    if (!is_name(rule->name.data, rule->name.len)) return "a name of 1 to 64 printable characters before '='";
    return *rule->pattern == '/' || *rule->pattern == '*' ? NULL : expected;
}

/* Match with one point to go back to for each kind of star: a later `**` makes those before it final, a later `*`
 * those since the last `**`. */
static bool matches(const char *pattern, struct http_text path) {
    const char *c = path.data, *end = path.data + path.len;
    const char *star = NULL, *star_at = NULL, *far = NULL, *far_at = NULL;
    for (;;) {
        if (*pattern == '*') {
            if (pattern[1] == '*') {
                while (*pattern == '*') pattern++;
                far = pattern;
                far_at = c;
                star = NULL;
            } else {
                star = ++pattern;
                star_at = c;
            }
        } else if (c == end && !*pattern) {
            return true;
        } else if (c < end && *pattern == *c) {
            pattern++;
            c++;
        } else if (star && star_at < end && *star_at != '/') {
            pattern = star;
            c = ++star_at;
        } else if (far && far_at < end) {
            pattern = far;
            c = ++far_at;
            star = NULL;
        } else {
            return false;
        }
    }
}

bool tag_rule_matches(const struct tag_rule *rule, const struct request_line *request) {
    bool any = rule->method.len == 0;
    bool same = request->method.len == rule->method.len &&
                memcmp(request->method.data, rule->method.data, rule->method.len) == 0;
    const char *query = memchr(request->path.data, '?', request->path.len);
    struct http_text path = {request->path.data, query ? (size_t)(query - request->path.data) : request->path.len};
    return (any || same) && matches(rule->pattern, path);
}
