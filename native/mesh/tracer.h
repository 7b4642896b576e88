/* Spans of one service: encoded when they end, kept in batches, exported when asked, as far as the queue is more than
 * half full, or every so often. Nothing is lost unseen: what cannot be kept or delivered is counted. One thread. */
#ifndef AEFM_MESH_TRACER_H
#define AEFM_MESH_TRACER_H

#include "http_reader.h"
#include "mesh/config.h"
#include "mesh/otlp.h"
#include "mesh/resolver.h"
#include "mesh/stream.h"
#include "mesh/timers.h"

struct span_batch {
    struct span_batch *next;
    uint32_t count;
    struct buffer spans;
};

struct flush_result {
    uint64_t exported, dropped; /* since the start */
    bool complete;              /* every span that ended before was delivered */
};

/* Who waits for a flush; done() may free it. */
struct flush_waiter {
    struct flush_waiter *next;
    uint64_t until, failed_before;
    void (*done)(struct flush_waiter *waiter, struct flush_result result);
};

enum export_state { EXPORT_IDLE, EXPORT_CONNECTING, EXPORT_SENT, EXPORT_PAUSE };

struct tracer {
    bool enabled;
    const struct service_config *config;
    struct loop *loop;
    struct timers *timers;
    struct address *address;
    char *scratch; /* for reading; of `scratch_size` bytes, shared with the loop's others */
    size_t scratch_size;
    struct rng ids;
    double sample_bound;
    struct buffer resource;
    struct span_batch *first, *last, *spare; /* `first` is the one to be exported */
    uint64_t ended, exported, failed, dropped;
    uint32_t waiting; /* spans in all batches */
    uint64_t due;     /* export until so many have been taken care of */
    struct stream stream;
    struct http_reader reader;
    enum export_state state;
    bool used; /* a response came on this connection */
    struct timer timer;    /* of an attempt, or of the pause after one */
    struct timer patience; /* of those who wait */
    struct timer interval;
    struct flush_waiter *waiters;
};

/* `config` without an OTLP endpoint gives a tracer that records nothing. */
void tracer_open(struct tracer *tracer, const struct service_config *config, struct loop *loop, struct timers *timers,
                 struct address *address, char *scratch, size_t scratch_size);

/* The context of a new server span: in the parent's trace (may be unset), or the root of a new one. */
struct span_context tracer_serve(struct tracer *tracer, const struct span_context *parent);
struct span_context tracer_child(struct tracer *tracer, const struct span_context *parent);

/* Record a span whose context is sampled. */
void tracer_end(struct tracer *tracer, const struct span *span);

/* Export all that ended so far, then tell `waiter`: later, or now where there is nothing. */
void tracer_flush(struct tracer *tracer, struct flush_waiter *waiter);

#endif
