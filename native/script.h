/* wrk's Lua interface: one interpreter per thread, and one for setup() and done(). The only file that knows Lua.
 *
 * Functions that run Lua return false after an error; script_error() then says "file.lua:LINE: message".
 */
#ifndef AEFM_SCRIPT_H
#define AEFM_SCRIPT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "histogram.h"
#include "http_reader.h"
#include "net.h"
#include "options.h"
#include "outcome.h"

struct script;

/* What a Lua `thread` object stands for. */
struct script_thread {
    struct script *script;
    struct address address;
    bool moved;        /* the script has set `addr`: all connections go there */
    atomic_bool *stop; /* set by thread:stop() */
};

struct script_summary {
    uint64_t duration_us, requests, bytes;
    uint64_t connect, read, write, status, timeout;
    const struct histogram *latency; /* microseconds */
    const struct histogram *rates;   /* completed requests in each second and thread */
};

/* Load the script (if there is one) into a fresh interpreter. `seed` starts math.random. The script is never NULL:
 * look at script_error() for what went wrong. */
struct script *script_open(const struct options *options, uint64_t seed);
void script_close(struct script *s);
const char *script_error(const struct script *s); /* NULL while all is well */

/* Call setup(thread) in the main interpreter, then init(args) in the thread's own. */
bool script_setup(struct script *main, struct script_thread *thread);
bool script_init(struct script *s, struct script_thread *thread, const struct options *options);

/* Tell whether a global is a function; false with an error when it is defined as something else. */
bool script_has(struct script *s, const char *name);
bool script_check_types(struct script *s);

/* Get the next request, or the fixed one of a script without request(). The text lives until the next call. */
bool script_request(struct script *s, const char **text, size_t *len);

/* The names that wrk.tag() knows, and the number of the latest request's: the one that was said in its request(), else
 * the last one said outside of all of them. */
struct tag_names *script_tags(struct script *s);
uint32_t script_tag(const struct script *s);

/* Fail with the position of request(): "file.lua:LINE: request() returned ...". */
bool script_blame_request(struct script *s, const char *what);

bool script_delay(struct script *s, double *milliseconds);
bool script_response(struct script *s, const struct http_reader *response, enum verdict *verdict);
bool script_done(struct script *main, const struct script_summary *summary);

#endif
