/* The file of --requests: a line of JSON that describes it, then one binary record of each request, in order of due times.
 *
 * Nothing of it is written while the load runs: the records are kept in memory, at most RECORDS_MAX of them.
 */
#ifndef AEFM_REQUESTS_FILE_H
#define AEFM_REQUESTS_FILE_H

#include "report.h"

#define REQUESTS_FORMAT 1

/* Return 0, or -1 when not all could be written. */
int requests_write(const struct report *r, FILE *to);

#endif
