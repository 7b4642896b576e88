/* What Lua calls: thread, address and statistics objects, wrk.lookup, wrk.connect, require "socket". */
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "script_internal.h"

#define THREAD "wrk.thread"
#define ADDRESS "wrk.addr"
#define STATS "wrk.stats"
#define COPY_DEPTH 64

/* Copy a value from one interpreter to another: nil, booleans, numbers, strings and tables of these.
 * Return false (with nothing pushed) for anything else. */
static bool copy_value(lua_State *from, int index, lua_State *to, int depth) {
    size_t len;
    if (index < 0) index = lua_gettop(from) + index + 1;
    luaL_checkstack(from, 4, "too many values");
    luaL_checkstack(to, 4, "too many values");
    switch (lua_type(from, index)) {
    case LUA_TNIL: lua_pushnil(to); return true;
    case LUA_TBOOLEAN: lua_pushboolean(to, lua_toboolean(from, index)); return true;
    case LUA_TNUMBER: lua_pushnumber(to, lua_tonumber(from, index)); return true;
    case LUA_TSTRING: {
        const char *text = lua_tolstring(from, index, &len);
        lua_pushlstring(to, text, len);
        return true;
    }
    case LUA_TTABLE: break;
    default: return false;
    }
    if (depth == COPY_DEPTH) return false;
    lua_newtable(to);
    for (lua_pushnil(from); lua_next(from, index); lua_pop(from, 1)) {
        int top = lua_gettop(to);
        if (copy_value(from, -2, to, depth + 1) && copy_value(from, -1, to, depth + 1)) {
            lua_rawset(to, -3);
            continue;
        }
        lua_settop(to, top - 1);
        lua_pop(from, 2);
        return false;
    }
    return true;
}

void script_push_global(lua_State *L, const char *name) {
    lua_pushstring(L, name);
    lua_rawget(L, LUA_GLOBALSINDEX);
}

static struct script_thread *check_thread(lua_State *L) {
    return *(struct script_thread **)luaL_checkudata(L, 1, THREAD);
}

static int thread_get(lua_State *L) {
    lua_State *other = check_thread(L)->script->L;
    const char *name = luaL_checkstring(L, 2);
    script_push_global(other, name);
    bool fine = copy_value(other, -1, L, 0);
    const char *type = luaL_typename(other, -1);
    lua_pop(other, 1);
    return fine ? 1 : luaL_error(L, "thread:get: cannot copy '%s' (%s)", name, type);
}

static int thread_set(lua_State *L) {
    lua_State *other = check_thread(L)->script->L;
    const char *name = luaL_checkstring(L, 2);
    luaL_checkany(L, 3);
    lua_pushstring(other, name);
    if (copy_value(L, 3, other, 0)) {
        lua_rawset(other, LUA_GLOBALSINDEX);
        return 0;
    }
    lua_pop(other, 1);
    return luaL_error(L, "thread:set: cannot copy '%s' (%s)", name, luaL_typename(L, 3));
}

static int thread_stop(lua_State *L) {
    atomic_store(check_thread(L)->stop, true);
    return 0;
}

static void push_address(lua_State *L, const struct sockaddr *address, socklen_t len) {
    struct address *copy = lua_newuserdata(L, sizeof *copy);
    memset(copy, 0, sizeof *copy);
    memcpy(&copy->storage, address, len);
    copy->len = len;
    luaL_getmetatable(L, ADDRESS);
    lua_setmetatable(L, -2);
}

static int thread_index(lua_State *L) {
    struct script_thread *thread = check_thread(L);
    const char *key = luaL_checkstring(L, 2);
    if (strcmp(key, "get") == 0) lua_pushcfunction(L, thread_get);
    else if (strcmp(key, "set") == 0) lua_pushcfunction(L, thread_set);
    else if (strcmp(key, "stop") == 0) lua_pushcfunction(L, thread_stop);
    else if (strcmp(key, "addr") == 0)
        push_address(L, (const struct sockaddr *)&thread->address.storage, thread->address.len);
    else lua_pushnil(L);
    return 1;
}

static int thread_newindex(lua_State *L) {
    struct script_thread *thread = check_thread(L);
    const char *key = luaL_checkstring(L, 2);
    if (strcmp(key, "addr") != 0) return luaL_error(L, "cannot set '%s' of a thread; use thread:set()", key);
    thread->address = *(struct address *)luaL_checkudata(L, 3, ADDRESS);
    thread->moved = true;
    return 0;
}

static int address_tostring(lua_State *L) {
    const struct address *address = luaL_checkudata(L, 1, ADDRESS);
    char text[NET_TEXT_MAX];
    const char *wrong = net_address_text(address, text, sizeof text);
    if (wrong) return luaL_error(L, "address: %s", wrong);
    lua_pushstring(L, text);
    return 1;
}

static int wrk_lookup(lua_State *L) {
    const char *host = luaL_checkstring(L, 1), *service = luaL_optstring(L, 2, "http");
    bool dry = lua_toboolean(L, lua_upvalueindex(1));
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all = NULL;
    int wrong = getaddrinfo(dry ? "127.0.0.1" : host, dry ? "80" : service, &hints, &all);
    if (wrong) return luaL_error(L, "unable to resolve %s:%s: %s", host, service, gai_strerror(wrong));
    lua_newtable(L);
    int n = 0;
    for (struct addrinfo *one = all; one; one = one->ai_next) {
        push_address(L, one->ai_addr, one->ai_addrlen);
        lua_rawseti(L, -2, ++n);
    }
    freeaddrinfo(all);
    return 1;
}

static int wrk_connect(lua_State *L) {
    const struct address *address = luaL_checkudata(L, 1, ADDRESS);
    bool dry = lua_toboolean(L, lua_upvalueindex(1));
    lua_pushboolean(L, dry || net_probe(address, 2000) == 0);
    return 1;
}

static int wrk_time_us(lua_State *L) {
    lua_pushnumber(L, (lua_Number)(clock_read_ns(CLOCK_REALTIME) / NS_PER_US));
    return 1;
}

static int wrk_tag(lua_State *L) {
    struct script *s = *(struct script **)lua_touserdata(L, lua_upvalueindex(1));
    uint32_t number = TAG_NONE;
    size_t len;
    if (!lua_isnoneornil(L, 1)) {
        const char *name = luaL_checklstring(L, 1, &len);
        number = tag_number(&s->tags, name, len);
    }
    if (number == TAG_BAD) {
        return luaL_error(L, "wrk.tag: expected a name of 1 to %d printable characters, and at most %d names",
                          TAG_NAME_MAX, TAGS_MAX - 1);
    }
    s->request_tag = number;
    if (!s->making) s->standing_tag = number;
    return 0;
}

static const struct histogram *check_stats(lua_State *L) {
    return *(const struct histogram **)luaL_checkudata(L, 1, STATS);
}

static int stats_percentile(lua_State *L) {
    lua_pushnumber(L, (lua_Number)hist_percentile(check_stats(L), luaL_checknumber(L, 2)));
    return 1;
}

/* Push value and count of the i-th (from 1) distinct value; nothing beyond the last. */
static int push_distinct(lua_State *L, const struct histogram *h, lua_Integer wanted) {
    for (uint32_t cell = 0; cell < HIST_CELLS; cell++) {
        if (h->cells[cell] == 0 || --wanted > 0) continue;
        lua_pushnumber(L, (lua_Number)hist_cell_low(cell));
        lua_pushnumber(L, (lua_Number)h->cells[cell]);
        return 2;
    }
    return 0;
}

static int stats_call(lua_State *L) { return push_distinct(L, check_stats(L), luaL_checkinteger(L, 2)); }

static int stats_index(lua_State *L) {
    const struct histogram *h = check_stats(L);
    if (lua_type(L, 2) == LUA_TNUMBER) {
        if (push_distinct(L, h, lua_tointeger(L, 2)) == 0) return 0;
        lua_pop(L, 1);
        return 1;
    }
    const char *key = luaL_checkstring(L, 2);
    if (strcmp(key, "min") == 0) lua_pushnumber(L, h->count ? (lua_Number)h->min_us : 0);
    else if (strcmp(key, "max") == 0) lua_pushnumber(L, (lua_Number)h->max_us);
    else if (strcmp(key, "mean") == 0) lua_pushnumber(L, hist_mean(h));
    else if (strcmp(key, "stdev") == 0) lua_pushnumber(L, hist_stdev(h));
    else if (strcmp(key, "percentile") == 0) lua_pushcfunction(L, stats_percentile);
    else lua_pushnil(L);
    return 1;
}

static int stats_len(lua_State *L) {
    const struct histogram *h = check_stats(L);
    lua_Integer distinct = 0;
    for (uint32_t cell = 0; cell < HIST_CELLS; cell++) distinct += h->cells[cell] > 0;
    lua_pushinteger(L, distinct);
    return 1;
}

static int socket_gettime(lua_State *L) {
    lua_pushnumber(L, (lua_Number)clock_read_ns(CLOCK_REALTIME) / 1e9);
    return 1;
}

static int socket_sleep(lua_State *L) {
    double seconds = luaL_checknumber(L, 1);
    if (seconds > 0 && seconds < 1e9) {
        struct timespec left = ns_to_timespec((uint64_t)(seconds * 1e9));
        while (nanosleep(&left, &left) < 0 && errno == EINTR) continue;
    }
    return 0;
}

static int open_socket(lua_State *L) {
    static const luaL_Reg functions[] = {{"gettime", socket_gettime}, {"sleep", socket_sleep}, {NULL, NULL}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}

static void define(lua_State *L, const char *metatable, const luaL_Reg *functions) {
    luaL_newmetatable(L, metatable);
    luaL_register(L, NULL, functions);
    lua_pop(L, 1);
}

void script_api_open(struct script *s) {
    lua_State *L = s->L;
    static const luaL_Reg thread[] = {{"__index", thread_index}, {"__newindex", thread_newindex}, {NULL, NULL}};
    static const luaL_Reg address[] = {{"__tostring", address_tostring}, {NULL, NULL}};
    static const luaL_Reg stats[] = {
        {"__index", stats_index}, {"__len", stats_len}, {"__call", stats_call}, {NULL, NULL}};
    define(L, THREAD, thread);
    define(L, ADDRESS, address);
    define(L, STATS, stats);
    lua_pushboolean(L, s->dry);
    lua_pushcclosure(L, wrk_lookup, 1);
    lua_setfield(L, -2, "lookup");
    lua_pushboolean(L, s->dry);
    lua_pushcclosure(L, wrk_connect, 1);
    lua_setfield(L, -2, "connect");
    *(struct script **)lua_newuserdata(L, sizeof s) = s;
    lua_pushcclosure(L, wrk_tag, 1);
    lua_setfield(L, -2, "tag");
    lua_pushcfunction(L, wrk_time_us);
    lua_setfield(L, -2, "time_us");
    script_push_global(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, open_socket);
    lua_setfield(L, -2, "socket");
    lua_pop(L, 2);
}

void script_push_thread(lua_State *L, struct script_thread *thread) {
    *(struct script_thread **)lua_newuserdata(L, sizeof thread) = thread;
    luaL_getmetatable(L, THREAD);
    lua_setmetatable(L, -2);
}

void script_push_stats(lua_State *L, const struct histogram *h) {
    *(const struct histogram **)lua_newuserdata(L, sizeof h) = h;
    luaL_getmetatable(L, STATS);
    lua_setmetatable(L, -2);
}
