/* One service that runs: everything of it lives on one thread, which its loop is; only CPU work may go to others.
 *
 * connection.c speaks HTTP with clients, exchange.c serves a request, for which routing.c finds the endpoint,
 * execution.c runs its steps, client.c calls a peer.c by a link.c, control.c answers /metrics and /-/..., service.c has
 * the loop. */
#ifndef AEFM_MESH_SERVICE_H
#define AEFM_MESH_SERVICE_H

#include <pthread.h>

#include "clock.h"
#include "http_parser.h"
#include "http_reader.h"
#include "loop.h"
#include "mesh/compute.h"
#include "mesh/config.h"
#include "mesh/lru.h"
#include "mesh/resolver.h"
#include "mesh/stream.h"
#include "mesh/timers.h"
#include "mesh/tracer.h"
#include "waking.h"

#define SCRATCH_BYTES 65536u
#define FAILURE_MAX 384u
#define DURATION_BUCKETS 14u
#define STATUS_BAD_GATEWAY 502
#define STATUS_UNAVAILABLE 503

struct service;
struct exchange;

/* What came of requests: one per endpoint and status. */
struct outcome {
    struct outcome *next;
    int status;
    uint64_t counts[DURATION_BUCKETS + 1]; /* the last one: beyond all buckets */
    double sum_s;
};

/* An endpoint, ready to be served. The last one of a service stands for requests that fit none. */
struct route {
    const struct endpoint_config *endpoint; /* NULL: of no endpoint */
    struct buffer attributes;               /* of its server spans */
    struct buffer answer;                   /* head and body of a success */
    size_t answer_head;
    struct outcome *outcomes;
};

/* A client's connection. */
struct connection {
    struct stream stream;
    struct service *service;
    struct connection *previous, *next;
    struct exchange *exchange; /* the request being received or served */
    struct http_body body;
    struct buffer in;     /* received, and not yet looked at or not yet a whole head */
    size_t seen;          /* of `in`, in vain */
    uint64_t since_ns;    /* its latest change between idle, receiving, answering */
    bool in_body, consuming;
    bool readable;        /* the socket may hold more */
    bool hung_up;         /* its end has come, or will: read up to it */
    bool ended;           /* ... and it was read */
    bool closing;         /* after what is being sent */
    struct buffer *content; /* of a request of the control's; NULL: nobody wants it */
    struct buffer kept_content;
};

/* A list of steps that runs: the exchange's own, or a part of another one's step. */
struct branch {
    struct exchange *exchange;
    struct branch *parent; /* NULL: the exchange's own */
    const struct steps *steps;
    uint32_t at;
    uint32_t pending; /* branches of the current step that run */
    bool failed;
    struct timer timer;
    struct job job;
    struct lru *cache; /* that takes `key` when this ended well; NULL: none */
    uint64_t key;
};

/* A request being served. It lives on when its client goes. */
struct exchange {
    struct service *service;
    struct connection *connection; /* NULL: gone, or not yet needed */
    struct route *route;
    struct exchange *next;         /* in the queue for a worker */
    uint64_t start_ns, start_unix_ns;
    struct span_context context, parent;
    struct http_text method, path, query, tracestate;
    bool to_head, close;
    bool works;          /* it has one of the workers */
    bool disturbed;      /* faults made it wait or fail */
    uint64_t stalled_ns; /* since when it waits for the end of a stall; 0: it does not */
    uint64_t delayed_ns; /* by faults */
    int status;
    struct timer timer;
    struct branch root;
    char failure[FAILURE_MAX]; /* empty: none */
    char text[];               /* what the http_texts above point into */
};

/* A connection to a replica of a peer. */
struct link {
    struct stream stream;
    struct replica *replica;
    struct link *previous, *next; /* among the idle ones */
    struct call *call;            /* NULL: idle */
    struct http_reader reader;
    bool connecting;
    bool served; /* a response came on it before */
};

struct replica {
    struct peer *peer;
    const struct url *url;
    struct address *address;
    struct link *links; /* the idle ones, the latest used first */
    uint32_t outstanding;
};

struct peer {
    struct service *service;
    const struct peer_config *config;
    struct replica *replicas;
    uint32_t turn;
    uint64_t first_attempts, retries;
    uint32_t failures_in_row;
    uint64_t open_until_ns; /* of the breaker; 0: closed */
    bool trying;            /* the one call that an open breaker admits runs */
};

struct call {
    struct branch *branch;
    const struct call_step *step;
    struct replica *replica;
    struct link *link;
    uint32_t retried;
    bool refused; /* its latest attempt was not sent */
    bool trial;   /* of an open breaker */
    uint64_t start_ns, start_unix_ns;
    struct span_context context;
    struct timer timer; /* of its time-out, or of the back-off before the next attempt */
    struct buffer request;
};

struct faults {
    double delay_ms, fail_rate;
    int fail_status;
    bool stall;
    struct timer end; /* of all of it */
    uint64_t requests, disturbed, delayed_ns; /* since the start, of requests that ended */
};

struct state_block {
    struct state_block *next;
    char data[];
};

struct service {
    const struct service_config *config;
    int stop_fd;    /* an eventfd: readable when the service is to end */
    struct loop loop;
    struct timers timers;
    struct waking waking;
    struct rng rng;
    uint64_t started_ns;
    struct compute *compute;
    struct tracer tracer;
    struct peer *peers;
    struct route *routes; /* endpoint_count + 1 */
    struct lru **caches;
    struct state_block *state;
    uint64_t state_bytes;
    struct faults faults;
    uint32_t in_flight, working, queued;
    bool admitting;
    struct exchange *queue, **queue_end;
    struct stream listener, stop, computed;
    int spare_fd; /* given up to refuse a connection when descriptors are out */
    struct connection *connections;
    uint32_t connection_count;
    struct timer sweep;
    struct buffer graveyard; /* of pointers: freed once no event can name them */
    bool stopping;
    uint64_t stop_by_ns;
    pthread_t thread;
    char scratch[SCRATCH_BYTES];
};

/* ---- service.c */

/* Listen and prepare everything. Return 0; or -1, after saying why on standard error. */
int service_open(struct service *service, const struct service_config *config, struct resolver *resolver);

/* Handle what is ready now, or at the next timer, or at the deadline. */
void service_turn(struct service *service, uint64_t deadline_ns);

/* Serve until stop_fd is readable, then until what is in flight has ended, for 0.5 s at most. The process ends then:
 * nothing is freed. */
void service_run(struct service *service);

/* Free `memory` after the events that are being looked at. */
void service_bury(struct service *service, void *memory);

/* ---- connection.c */

void connection_accept(struct service *service, int fd);

/* Answer the exchange's request, and free the exchange. */
void connection_answer(struct exchange *exchange, int status, const char *content_type, const void *body, size_t len);
void connection_answer_prepared(struct exchange *exchange, const struct buffer *answer, size_t head);
void connection_close(struct connection *connection);
void connection_sweep(struct service *service);

/* ---- exchange.c */

/* A new exchange of a parsed head at `data`. Its connection's body is still to come. */
struct exchange *exchange_new(struct connection *connection, const char *data, size_t len,
                              const struct http_head *head);

/* The request is complete: serve it. */
void exchange_begin(struct exchange *exchange);

/* Its steps have ended, well or with exchange->status and ->failure. */
void exchange_end(struct exchange *exchange);

/* Say that it failed; the first failure counts. */
void exchange_fail(struct exchange *exchange, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Begin to work on as many of those in the queue as may be. */
void exchange_admit(struct service *service);

/* ---- routing.c */

/* NULL where there is none; *path_known tells whether there is one for another method. */
struct route *route_find(struct service *service, const struct exchange *exchange, bool *path_known);

/* Tell whether it has the parameters that its route requires; it has failed otherwise. */
bool route_check_parameters(struct exchange *exchange);

/* The value of a parameter, of the path or of the query, as it was sent; false where there is none. */
bool exchange_parameter(const struct exchange *exchange, const char *name, struct http_text *value);

/* ---- execution.c */

void branch_run(struct branch *branch);

/* The step that `branch` waited for has ended. */
void branch_resume(struct branch *branch, bool failed);

/* ---- peer.c */

void peers_open(struct service *service, struct resolver *resolver);

/* A peer whose address is not known yet; NULL where there is none. */
const char *peers_unknown(struct service *service);

struct replica *replica_choose(struct peer *peer);

/* Tell whether the breaker keeps the call from being sent; it may be the one that tries. */
bool breaker_refuses(struct peer *peer, struct call *call);
void breaker_hears(struct peer *peer, struct call *call, bool failed);

/* ---- link.c */

/* Send call->request on an idle connection to call->replica, or on a new one. Return NULL, or why it cannot be sent. */
const char *link_request(struct call *call);
void link_close(struct link *link);

/* ---- client.c */

/* Call; ends in branch_resume(), maybe at once. */
void call_begin(struct branch *branch, const struct call_step *step);

/* What it had sent was answered with `status`, or was not: `failure` says why. */
void call_attempt_ended(struct call *call, const char *failure, int status);

/* ---- control.c */

bool control_is_path(struct http_text path);
void control_serve(struct exchange *exchange, const struct buffer *content);
void faults_end(void *service); /* all that is in force */
void control_refuse(struct exchange *exchange, int status, const char *what);

/* ---- metrics.c */


void metrics_record(struct route *route, int status, uint64_t duration_ns);
void metrics_write(struct service *service, struct buffer *to);

#endif
