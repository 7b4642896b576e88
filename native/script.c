#include "script.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "script_internal.h"

bool script_fail(struct script *s, const char *message) {
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
    return script_fail(s, placed);
}

bool script_call(struct script *s, const char *name, int arguments, int results) {
    if (lua_pcall(s->L, arguments, results, s->handler) == 0) return true;
    const char *message = lua_tostring(s->L, -1);
    if (!message) message = "unknown error";
    if (strncmp(message, s->chunk, strlen(s->chunk)) == 0) script_fail(s, message);
    else fail_at(s, name, message);
    lua_settop(s->L, s->handler);
    return false;
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
    return script_fail(s, message);
}

bool script_setup(struct script *main, struct script_thread *thread) {
    if (main->failed || !push_wrk(main, "setup")) return false;
    script_push_thread(main->L, thread);
    return script_call(main, "setup", 1, 0);
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
    return script_call(s, "init", 1, 0);
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
        return script_fail(s, message);
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
    bool fine = script_call(s, "request", 0, 1);
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
    if (!script_call(s, "delay", 0, 1)) return false;
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
    if (!script_call(s, "response", 3, 1)) return false;
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
    return script_call(main, "done", 3, 0);
}
