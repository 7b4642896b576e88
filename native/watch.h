/* The main thread's part while the load runs: it observes the window's edges, and ends it early where that is asked for. */
#ifndef AEFM_WATCH_H
#define AEFM_WATCH_H

#include "report.h"
#include "run.h"

/* Return when the window has ended, or the threads have; fill at_start, at_end and what --abort-on has found. */
void watch_window(struct report *r, struct run *run, const struct worker *workers);

#endif
