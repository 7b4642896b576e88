/* The looks of --precision at a run that goes on, by a thread of idle priority: what it computes must delay no request. */
#ifndef AEFM_LOOKS_H
#define AEFM_LOOKS_H

#include "observe.h"

struct looks;

/* Begin to look, when the run has its schedule. NULL where no precision is asked for, or there is no thread for it. */
struct looks *looks_begin(struct run *run, const struct worker *workers);

/* End it. Where a look has ended the window, fill what was observed at the end of that: the caller frees it. */
void looks_end(struct looks *l, struct observation *at_end);

#endif
