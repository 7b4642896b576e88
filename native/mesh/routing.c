/* Which endpoint a request is for, and its parameters, of path and query. */
#include <stdio.h>
#include <string.h>

#include "mesh/service.h"

/* ---- parameters */

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* Compare a name in a query, which may be percent-encoded, with a plain one. */
static bool query_name_is(const char *text, size_t len, const char *name) {
    size_t at = 0;
    for (; at < len && *name; name++) {
        char c = text[at++];
        if (c == '+') c = ' ';
        if (c == '%' && at + 2 <= len && hex_value(text[at]) >= 0 && hex_value(text[at + 1]) >= 0) {
            c = (char)(hex_value(text[at]) * 16 + hex_value(text[at + 1]));
            at += 2;
        }
        if (c != *name) return false;
    }
    return at == len && !*name;
}

static bool query_parameter(struct http_text query, const char *name, struct http_text *value) {
    if (query.len == 0) return false;
    const char *at = query.data, *end = query.data + query.len;
    while (at < end) {
        const char *amp = memchr(at, '&', (size_t)(end - at)), *stop = amp ? amp : end;
        const char *equals = memchr(at, '=', (size_t)(stop - at)), *name_end = equals ? equals : stop;
        if (query_name_is(at, (size_t)(name_end - at), name)) {
            *value = (struct http_text){equals ? equals + 1 : stop, equals ? (size_t)(stop - equals - 1) : 0};
            return true;
        }
        at = stop + 1;
    }
    return false;
}

static size_t segment_len(const char *at, const char *end) {
    const char *slash = memchr(at, '/', (size_t)(end - at));
    return (size_t)((slash ? slash : end) - at);
}

/* Lay a path over a pattern; where `name` is given, find the segment that it takes. */
static bool pattern_fits(const char *pattern, struct http_text path, const char *name, struct http_text *value) {
    const char *p = pattern, *p_end = pattern + strlen(pattern), *c = path.data, *c_end = path.data + path.len;
    for (;;) {
        size_t n = segment_len(p, p_end), m = segment_len(c, c_end);
        if (n > 2 && *p == '{' && p[n - 1] == '}') {
            if (m == 0) return false;
            if (name && strlen(name) == n - 2 && memcmp(name, p + 1, n - 2) == 0) *value = (struct http_text){c, m};
        } else if (n != m || memcmp(p, c, n) != 0) {
            return false;
        }
        p += n;
        c += m;
        if (p == p_end || c == c_end) return p == p_end && c == c_end;
        p++;
        c++;
    }
}

bool exchange_parameter(const struct exchange *e, const char *name, struct http_text *value) {
    const struct endpoint_config *endpoint = e->route->endpoint;
    *value = (struct http_text){0};
    if (endpoint->pattern && pattern_fits(endpoint->path, e->path, name, value) && value->data) return true;
    return query_parameter(e->query, name, value);
}

/* ---- routing */

struct route *route_find(struct service *s, const struct exchange *e, bool *path_known) {
    struct route *found = NULL;
    *path_known = false;
    for (uint32_t i = 0; i < s->config->endpoint_count; i++) {
        const struct endpoint_config *endpoint = &s->config->endpoints[i];
        bool fits = endpoint->pattern ? !found && pattern_fits(endpoint->path, e->path, NULL, NULL)
                                      : http_text_equals(e->path, endpoint->path);
        if (!fits) continue;
        *path_known = true;
        if (!http_text_equals(e->method, endpoint->method)) continue;
        found = &s->routes[i];
        if (!endpoint->pattern) break;
    }
    return found;
}

bool route_check_parameters(struct exchange *e) {
    const struct endpoint_config *endpoint = e->route->endpoint;
    char missing[FAILURE_MAX / 2] = "";
    struct http_text value;
    for (uint32_t i = 0; i < endpoint->parameter_count; i++) {
        if (query_parameter(e->query, endpoint->parameters[i], &value)) continue;
        size_t len = strlen(missing);
        snprintf(missing + len, sizeof missing - len, "%s%s", len ? ", " : "", endpoint->parameters[i]);
    }
    if (*missing) exchange_fail(e, 400, "%s requires %s", endpoint->name, missing);
    return !*missing;
}
