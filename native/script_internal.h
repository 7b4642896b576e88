/* Shared between script_open.c (the interpreter), script.c (calls into Lua) and script_api.c (what Lua calls). */
#ifndef AEFM_SCRIPT_INTERNAL_H
#define AEFM_SCRIPT_INTERNAL_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "script.h"

#define SCRIPT_ERROR_MAX 1024
#define SCRIPT_NAME_MAX 56 /* longer chunk names are cut by Lua's error messages */

struct script {
    lua_State *L;
    bool failed;
    bool dry;                   /* --check: no network */
    bool making;                /* a request: wrk.tag() is about this one */
    struct tag_names tags;
    uint32_t request_tag, standing_tag;
    int handler;                /* stack index of the message handler: the bottom */
    char chunk[SCRIPT_NAME_MAX]; /* the script's name in messages */
    char error[SCRIPT_ERROR_MAX];
};

extern const char script_prelude[];

/* Define metatables, the functions of `wrk` that are not Lua, and require "socket". `wrk` is on the top. */
void script_api_open(struct script *s);

/* Keep the first error's message; return false. */
bool script_fail(struct script *s, const char *message);

/* Call what is on the stack; on an error keep its message. The results (or nothing) are left. `name` is the global
 * to name where a tail call has wiped the script's line off the stack. */
bool script_call(struct script *s, const char *name, int arguments, int results);

/* Push a global without metamethods: scripts may make reading an undefined one an error. */
void script_push_global(lua_State *L, const char *name);

void script_push_thread(lua_State *L, struct script_thread *thread);
void script_push_stats(lua_State *L, const struct histogram *h);

#endif
