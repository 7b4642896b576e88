/* An interpreter of its own for each thread: `wrk` from the command line, then the script's file. */
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
        script_fail(s, message);
    } else {
        /* A first line "#!..." is blanked, not cut, so that line numbers stay. */
        if (text.len > 1 && text.data[0] == '#') text.data[0] = text.data[1] = '-';
        if (luaL_loadbuffer(s->L, text.len ? text.data : "", text.len, name) != 0) {
            script_fail(s, lua_tostring(s->L, -1));
            lua_pop(s->L, 1);
        } else {
            script_call(s, "", 0, 0);
        }
    }
    buffer_free(&text);
}

struct script *script_open(const struct options *options, uint64_t seed) {
    struct script *s = must_alloc(1, sizeof *s);
    s->L = luaL_newstate();
    if (!s->L) {
        script_fail(s, "cannot start Lua: out of memory");
        return s;
    }
    lua_State *L = s->L;
    luaL_openlibs(L);
    lua_pushliteral(L, "");
    lua_pushcclosure(L, message_handler, 1);
    s->handler = lua_gettop(L);
    s->dry = options->action == ACTION_CHECK;
    if (luaL_loadbuffer(L, script_prelude, strlen(script_prelude), "=wrk") != 0 || !script_call(s, "", 0, 1)) {
        script_fail(s, "wrk.lua does not load");
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
