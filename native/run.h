/* What all threads of one run share, and what each of them owns. */
#ifndef AEFM_RUN_H
#define AEFM_RUN_H

#include <pthread.h>
#include <stdatomic.h>

#include "conn.h"
#include "due_queue.h"
#include "http_request.h"
#include "options.h"
#include "outcome.h"
#include "pacer.h"
#include "queue_track.h"
#include "record.h"
#include "script.h"
#include "tagged.h"
#include "waking.h"

/* What ended the window. */
enum ending { ENDED_BY_DURATION, ENDED_BY_PRECISION, ENDED_BY_ABORT };

/* Written by the main thread before it says "go", read by all; the atomics and what the lock guards excepted. */
struct run {
    const struct options *options;
    struct schedule schedule; /* with the warm-up */
    uint64_t seed;            /* of the arrivals */
    struct tls_client *tls;   /* NULL: http */
    struct addresses targets; /* connection i of the whole run goes to number i modulo their count */
    uint64_t start_ns;        /* of the schedule (the warm-up) */
    uint64_t window_start_ns; /* start + warm-up */
    uint64_t window_end_ns;   /* as planned */
    atomic_uint_least64_t end_ns;  /* of the window: as planned, or earlier */
    atomic_int ending;        /* an enum ending, written after end_ns */
    atomic_uint_least64_t look_ns; /* a look wants all that was due before to have ended */
    int wake_fd;              /* an eventfd, edge-triggered: written when threads shall look at the flags */
    int progress_fd;          /* an eventfd: written when a thread is ready or has finished, and when the run shall end */
    atomic_bool stop;
    atomic_bool cancelled;    /* the run does not take place */
    atomic_uint ready, finished;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool may_go;    /* the schedule is set (or the run cancelled) */
    bool may_leave; /* the threads have been looked at for the last time */
};

struct worker {
    struct run *run;
    uint32_t index;
    pthread_t thread;
    int tid;    /* set before `ready`, as is the next */
    int broken; /* errno of what keeps this thread from working at all */

    struct loop loop;
    struct pacer pacer;
    struct waking waking;
    uint64_t next_slot_ns; /* when the first request is due that is not yet taken into `due` or `delayed` */
    struct due_queue due;  /* wait for a free connection, in order */
    struct due_heap delayed;
    uint64_t window_end_ns; /* earlier than the run's when the thread was stopped */
    atomic_uint_least64_t settled_ns; /* all that was due before has ended, as a look has asked */
    uint64_t drain_end_ns;
    bool ended;            /* the window is over, the drain has begun */
    bool interrupted;

    struct conn *conns;
    uint32_t conn_count;         /* in use: grows to conn_max when none is free */
    uint32_t conn_max, grown;
    struct conn_list idle;       /* longest idle first */
    struct conn_list in_flight;  /* by deadline */
    struct conn_list connecting; /* by deadline */
    struct conn_list closed;     /* to be opened at once */
    struct conn_list paused;     /* to be opened later, by time */
    uint64_t next_knock_ns;      /* of an unreachable target */
    uint32_t failed_count;       /* connections with `failed` set */
    const char *connect_failure; /* the latest; NULL: none */
    uint64_t open_failures;      /* errors of this machine */
    uint32_t reached_max, reached_at_start;
    bool at_start_noted;

    struct script *script;
    struct script_thread script_thread;
    atomic_bool stop; /* thread:stop() */
    bool has_request, has_delay, has_response;
    struct buffer fixed_text; /* of a script without request() */
    struct request_batch batch;
    uint64_t taken_ahead;     /* slots of the schedule that pipelined requests have used before their time */

    struct tally tally;
    struct tag_names *tags; /* the script's, and those of --tag-path */
    uint32_t *rule_tags;    /* the number of each --tag-path's name */
    struct tagged tagged;   /* empty while there are no names */
    struct record_log records;
    struct queue_track waiting;
    uint32_t *per_second; /* completed responses in each second of the window */
    size_t seconds;
    char *scratch;
};

/* Prepare a worker with its interpreter opened and init() not yet called. */
void worker_prepare(struct worker *w, struct run *run, uint32_t index, struct script *script);

/* After init(): learn which functions the script has and check the fixed request. False after a script error. */
bool worker_learn_script(struct worker *w);

/* The thread's body; `argument` is the worker. */
void *worker_main(void *argument);

void worker_free(struct worker *w);

/* Make every thread end now. Safe in a signal handler. */
void run_stop(struct run *run);

/* End the window, by ENDED_BY_PRECISION in the past, by ENDED_BY_ABORT in the near future. The first call counts. */
void run_end(struct run *run, enum ending ending, uint64_t end_ns);

/* --- worker.c (schedule) --- */

/* `more` requests were sent together with one that was due: they use up its successors' slots. */
void worker_take_slots(struct worker *w, uint64_t more, bool in_window);

/* --- worker_conn.c (connections) --- */

/* Open connections that are due to be opened. */
void worker_open_due(struct worker *w, uint64_t now);
uint64_t worker_open_deadline(const struct worker *w);
void worker_handle(struct worker *w, struct conn *c, uint32_t events);
void worker_expire(struct worker *w, uint64_t now);
void worker_drop(struct worker *w, struct conn *c, uint64_t now);

/* No connection is open and every one of them failed when last tried. */
bool worker_unreachable(const struct worker *w);

/* --- worker_request.c (requests) --- */

void worker_send(struct worker *w, struct conn *c, uint64_t intended_ns);

/* Account for the request whose response was awaited; false where no other one is. */
bool worker_finish_one(struct worker *w, struct conn *c, enum outcome outcome, uint64_t end_ns);

/* Account for all that the connection carries. */
void worker_finish(struct worker *w, struct conn *c, enum outcome outcome, uint64_t end_ns);

/* Give up a due request that was not sent. It is made all the same where its tag is wanted. */
void worker_give_up(struct worker *w, enum outcome outcome, uint64_t intended_ns, uint64_t now);

#endif
