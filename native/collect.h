/* What all threads of a run have measured, put together as its report. */
#ifndef AEFM_COLLECT_H
#define AEFM_COLLECT_H

#include "report.h"
#include "run.h"

/* Fill what the report tells of the window, when the threads have ended. */
void collect(struct report *r, const struct run *run, const struct worker *workers);

#endif
