/* Where the connections go: the URL's host, or what --target names instead. */
#ifndef AEFM_TARGET_H
#define AEFM_TARGET_H

#include "net.h"
#include "options.h"

/* Find all addresses of a run. Without a network (--check) host names are not looked up. Return 0, or -1 with one
 * line "host:port: reason" in `error`. */
int target_find(const struct options *options, struct addresses *to, char *error, size_t error_size);

/* Name what could not be connected to: "host:port", or the first target. */
void target_text(const struct options *options, char *text, size_t size);

#endif
