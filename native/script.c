#include "script.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "script_internal.h"

/* Give a message the script's own line, where it was raised in wrk.* or in C on the script's behalf. */
static int message_handler(lua_State *L) {
    const char *chunk = lua_tostring(L, lua_upvalueindex(1));
    const char *message = lua_tostring(L, 1);
    lua_Debug frame;
    if (!message) message = lua_pushfstring(L, "error object is a %s value", luaL_typename(L, 1));
    if (*chunk && strncmp(message, chunk, strlen(chunk)) == 0) return 1;
    for (int level = 1; *chunk && lua_getstack(L, level, &frame); level++) {
        lua_getinfo(L, "Sl", &frame);
        if (strcmp(frame.short_src, chunk) != 0 || frame.currentline <= 0) continue;
        lua_pushfstring(L, "%s:%d: %s", chunk, frame.currentline, message);
        return 1;
    }
    lua_pushstring(L, message);
    return 1;
}

static bool fail(struct script *s, const char *message) {
    if (!s->failed) snprintf(s->error, sizeof s->error, "%s", message);
    s->failed = true;
    return false;
}

/* Fail with the place where a global function is defined: "file.lua:LINE: message". */
static bool fail_at(struct script *s, const char *name, const char *message) {
    char placed[SCRIPT_ERROR_MAX];
    lua_Debug info = {0};
    script_push_global(s->L, name);
    if (lua_isfunction(s->L, -1) && !lua_iscfunction(s->L, -1)) {
        lua_getinfo(s->L, ">S", &info);
        snprintf(placed, sizeof placed, "%s:%d: %s", info.short_src, info.linedefined, message);
    } else {
        lua_pop(s->L, 1);
        snprintf(placed, sizeof placed, "%s%s%s", s->chunk, *s->chunk ? ": " : "", message);
    }
    return fail(s, placed);
}

/* Call what is on the stack; on an error keep its message. The results (or nothing) are left. `name` is the global
 * to name where a tail call has wiped the script's line off the stack. */
static bool call(struct script *s, const char *name, int arguments, int results) {
    if (lua_pcall(s->L, arguments, results, s->handler) == 0) return true;
    const char *message = lua_tostring(s->L, -1);
    if (!message) message = "unknown error";
    if (strncmp(message, s->chunk, strlen(s->chunk)) == 0) fail(s, message);
    else fail_at(s, name, message);
    lua_settop(s->L, s->handler);
    return false;
}

static void set_text(lua_State *L, const char *field, const char *text, size_t len) {
    lua_pushlstring(L, text, len);
    lua_setfield(L, -2, field);
}

/* Fill the global table `wrk`, which is on the top, from the command line. */
static void fill_wrk(lua_State *L, const struct options *o) {
    lua_pushstring(L, o->url.secure ? "https" : "http");
    lua_setfield(L, -2, "scheme");
    set_text(L, "host", o->url.host, strlen(o->url.host));
    if (o->url.has_port) set_text(L, "port", o->url.port, strlen(o->url.port));
    lua_pushstring(L, o->url.path_len && *o->url.path == '/' ? "" : "/");
    lua_pushlstring(L, o->url.path, o->url.path_len);
    lua_concat(L, 2);
    lua_setfield(L, -2, "path");
    lua_getfield(L, -1, "headers");
    for (size_t i = 0; i < o->header_count; i++) {
        const char *header = o->headers[i], *value = strchr(header, ':') + 1;
        value += strspn(value, " \t");
        lua_pushlstring(L, header, strcspn(header, ":"));
        lua_pushstring(L, value);
        lua_rawset(L, -3);
    }
    lua_pop(L, 1);
}

static int ignore_seed(lua_State *L) {
    (void)L;
    return 0;
}

static void seed_random(lua_State *L, uint64_t seed, bool hold) {
    script_push_global(L, "math");
    lua_getfield(L, -1, "randomseed");
    lua_pushnumber(L, (lua_Number)(seed >> 12));
    lua_call(L, 1, 0);
    if (hold) {
        lua_pushcfunction(L, ignore_seed);
        lua_setfield(L, -2, "randomseed");
    }
    lua_pop(L, 1);
}

/* Let a script `require` files that lie beside it. */
static void add_package_path(lua_State *L, const char *file) {
    const char *slash = strrchr(file, '/');
    if (!slash) return;
    script_push_global(L, "package");
    lua_getfield(L, -1, "path");
    lua_pushfstring(L, "%s;", lua_tostring(L, -1));
    lua_pushlstring(L, file, (size_t)(slash - file));
    lua_pushliteral(L, "/?.lua");
    lua_concat(L, 3);
    lua_setfield(L, -3, "path");
    lua_pop(L, 2);
}

static bool read_file(const char *path, struct buffer *text) {
    char part[4096];
    size_t n;
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    while ((n = fread(part, 1, sizeof part, file)) > 0) buffer_append(text, part, n);
    bool fine = !ferror(file);
    fclose(file);
    return fine;
}

static void load_file(struct script *s, const char *path) {
    char name[SCRIPT_NAME_MAX + 1], message[SCRIPT_ERROR_MAX];
    struct buffer text = {0};
    const char *slash = strrchr(path, '/');
    const char *shown = strlen(path) < sizeof s->chunk || !slash ? path : slash + 1;
    snprintf(s->chunk, sizeof s->chunk, "%s", shown);
    snprintf(name, sizeof name, "@%s", s->chunk);
    lua_pushstring(s->L, s->chunk);
    lua_pushcclosure(s->L, message_handler, 1);
    lua_replace(s->L, s->handler);
    if (!read_file(path, &text)) {
        snprintf(message, sizeof message, "%s: cannot read the script", path);
        fail(s, message);
    } else {
        /* A first line "#!..." is blanked, not cut, so that line numbers stay. */
        if (text.len > 1 && text.data[0] == '#') text.data[0] = text.data[1] = '-';
        if (luaL_loadbuffer(s->L, text.len ? text.data : "", text.len, name) != 0) {
            fail(s, lua_tostring(s->L, -1));
            lua_pop(s->L, 1);
        } else {
            call(s, "", 0, 0);
        }
    }
    buffer_free(&text);
}

struct script *script_open(const struct options *options, uint64_t seed) {
    struct script *s = must_alloc(1, sizeof *s);
    s->L = luaL_newstate();
    if (!s->L) {
        fail(s, "cannot start Lua: out of memory");
        return s;
    }
    lua_State *L = s->L;
    luaL_openlibs(L);
    lua_pushliteral(L, "");
    lua_pushcclosure(L, message_handler, 1);
    s->handler = lua_gettop(L);
    s->dry = options->action == ACTION_CHECK;
    if (luaL_loadbuffer(L, script_prelude, strlen(script_prelude), "=wrk") != 0 || !call(s, "", 0, 1)) {
        fail(s, "wrk.lua does not load");
        return s;
    }
    script_api_open(s);
    fill_wrk(L, options);
    lua_setglobal(L, "wrk");
    lua_pushstring(L, options->url_text); /* as in DeathStarBench's wrk2 */
    lua_setglobal(L, "url");
    seed_random(L, seed, options->seeded);
    if (options->script) {
        add_package_path(L, options->script);
        load_file(s, options->script);
    }
    return s;
}

void script_close(struct script *s) {
    if (!s) return;
    if (s->L) lua_close(s->L);
    tag_names_free(&s->tags);
    free(s);
}

const char *script_error(const struct script *s) { return s->failed ? s->error : NULL; }

/* Push wrk[name]; fail where a script replaced it by something that cannot be called. */
static bool push_wrk(struct script *s, const char *name) {
    script_push_global(s->L, "wrk");
    if (lua_istable(s->L, -1)) {
        lua_getfield(s->L, -1, name);
        lua_remove(s->L, -2);
        if (lua_isfunction(s->L, -1)) return true;
    }
    char message[SCRIPT_ERROR_MAX];
    snprintf(message, sizeof message, "%s: wrk.%s is no longer a function", s->chunk, name);
    lua_settop(s->L, s->handler);
    return fail(s, message);
}

bool script_setup(struct script *main, struct script_thread *thread) {
    if (main->failed || !push_wrk(main, "setup")) return false;
    script_push_thread(main->L, thread);
    return call(main, "setup", 1, 0);
}

bool script_init(struct script *s, struct script_thread *thread, const struct options *options) {
    if (s->failed || !push_wrk(s, "init")) return false;
    script_push_global(s->L, "wrk");
    script_push_thread(s->L, thread);
    lua_setfield(s->L, -2, "thread");
    lua_pop(s->L, 1);
    /* As in wrk, args[0] is the URL. */
    lua_newtable(s->L);
    lua_pushstring(s->L, options->url_text);
    lua_rawseti(s->L, -2, 0);
    for (size_t i = 0; i < options->script_arg_count; i++) {
        lua_pushstring(s->L, options->script_args[i]);
        lua_rawseti(s->L, -2, (int)i + 1);
    }
    return call(s, "init", 1, 0);
}

bool script_has(struct script *s, const char *name) {
    script_push_global(s->L, name);
    bool is_function = lua_isfunction(s->L, -1);
    lua_pop(s->L, 1);
    return is_function;
}

bool script_check_types(struct script *s) {
    static const char *const names[] = {"setup", "init", "delay", "request", "response", "done"};
    char message[SCRIPT_ERROR_MAX];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        script_push_global(s->L, names[i]);
        int type = lua_type(s->L, -1);
        lua_pop(s->L, 1);
        if (type == LUA_TNIL || type == LUA_TFUNCTION) continue;
        snprintf(message, sizeof message, "%s: expected the global '%s' to be a function, got a %s", s->chunk,
                 names[i], lua_typename(s->L, type));
        return fail(s, message);
    }
    return true;
}

bool script_blame_request(struct script *s, const char *what) {
    char message[SCRIPT_ERROR_MAX];
    snprintf(message, sizeof message, script_has(s, "request") ? "request() returned %s" : "the request is %s", what);
    return fail_at(s, "request", message);
}

bool script_request(struct script *s, const char **text, size_t *len) {
    lua_State *L = s->L;
    lua_settop(L, s->handler);
    script_push_global(L, "request");
    if (!lua_isfunction(L, -1)) {
        lua_pop(L, 1);
        if (!push_wrk(s, "request")) return false;
    }
    s->request_tag = s->standing_tag;
    s->making = true;
    bool fine = call(s, "request", 0, 1);
    s->making = false;
    if (!fine) return false;
    if (lua_type(L, -1) != LUA_TSTRING) {
        char what[64];
        snprintf(what, sizeof what, "no string but %s", luaL_typename(L, -1));
        return script_blame_request(s, what);
    }
    *text = lua_tolstring(L, -1, len); /* stays on the stack, so that it lives until the next call */
    return true;
}

struct tag_names *script_tags(struct script *s) { return &s->tags; }

uint32_t script_tag(const struct script *s) { return s->request_tag; }

bool script_delay(struct script *s, double *milliseconds) {
    lua_settop(s->L, s->handler);
    script_push_global(s->L, "delay");
    if (!call(s, "delay", 0, 1)) return false;
    *milliseconds = lua_tonumber(s->L, -1);
    bool fine = lua_isnumber(s->L, -1) && *milliseconds >= 0 && *milliseconds < 1e12;
    lua_pop(s->L, 1);
    return fine ? true : fail_at(s, "delay", "delay() returned no number of milliseconds >= 0");
}

static void push_headers(lua_State *L, const struct http_reader *response) {
    struct http_text name, value;
    size_t at = response->head.fields_at;
    lua_newtable(L);
    while (http_next_field(response->kept_head.data, response->head_len, &at, &name, &value)) {
        lua_pushlstring(L, name.data, name.len);
        lua_pushlstring(L, value.data, value.len);
        lua_rawset(L, -3);
    }
}

bool script_response(struct script *s, const struct http_reader *response, enum verdict *verdict) {
    lua_State *L = s->L;
    lua_settop(L, s->handler);
    script_push_global(L, "response");
    lua_pushinteger(L, response->head.status);
    push_headers(L, response);
    lua_pushlstring(L, response->kept_body.len ? response->kept_body.data : "", response->kept_body.len);
    if (!call(s, "response", 3, 1)) return false;
    *verdict = VERDICT_NONE;
    if (lua_isboolean(L, -1)) *verdict = lua_toboolean(L, -1) ? VERDICT_TRUE : VERDICT_FALSE;
    lua_pop(L, 1);
    return true;
}

static void set_count(lua_State *L, const char *field, uint64_t count) {
    lua_pushnumber(L, (lua_Number)count);
    lua_setfield(L, -2, field);
}

bool script_done(struct script *main, const struct script_summary *summary) {
    lua_State *L = main->L;
    lua_settop(L, main->handler);
    script_push_global(L, "done");
    lua_newtable(L);
    set_count(L, "duration", summary->duration_us);
    set_count(L, "requests", summary->requests);
    set_count(L, "bytes", summary->bytes);
    lua_newtable(L);
    set_count(L, "connect", summary->connect);
    set_count(L, "read", summary->read);
    set_count(L, "write", summary->write);
    set_count(L, "status", summary->status);
    set_count(L, "timeout", summary->timeout);
    lua_setfield(L, -2, "errors");
    script_push_stats(L, summary->latency);
    script_push_stats(L, summary->rates);
    return call(main, "done", 3, 0);
}
