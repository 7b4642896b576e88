/* One load thread: takes due requests from the schedule to free connections, ends the window, drains. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "run.h"

#define LEAD_SHARE 0.1
#define SCRATCH (64u << 10)
#define DUE_MAX ((size_t)1 << 20) /* beyond this the schedule itself remembers what is due */
#define SECONDS_MAX 1000000u
#define OPEN_MARGIN_NS (5 * NS_PER_MS) /* between opening connections and a wanted start */

static void wake_all(struct run *run) {
    uint64_t one = 1;
    /* Where a counter is full, it has been readable for long. */
    if (write(run->wake_fd, &one, sizeof one) < 0 || write(run->progress_fd, &one, sizeof one) < 0) return;
}

void run_stop(struct run *run) {
    atomic_store(&run->stop, true);
    wake_all(run);
}

void run_end(struct run *run, enum ending ending, uint64_t end_ns) {
    int none = ENDED_BY_DURATION;
    uint64_t planned = run->window_end_ns;
    if (!atomic_compare_exchange_strong(&run->end_ns, &planned, end_ns)) return;
    atomic_compare_exchange_strong(&run->ending, &none, (int)ending);
    wake_all(run);
}

void worker_prepare(struct worker *w, struct run *run, uint32_t index, struct script *script) {
    const struct options *o = run->options;
    *w = (struct worker){.run = run, .index = index, .script = script};
    w->script_thread = (struct script_thread){.script = script, .address = run->targets.at[0], .stop = &w->stop};
    w->conn_count = pacer_share(o->connections, index, o->threads);
    w->conn_max = pacer_share(o->max_connections, index, o->threads);
    w->conns = must_alloc(w->conn_max, sizeof *w->conns);
    w->seconds = (size_t)((o->duration_ns + NS_PER_S - 1) / NS_PER_S);
    if (w->seconds > SECONDS_MAX) w->seconds = SECONDS_MAX;
    w->per_second = must_alloc(w->seconds, sizeof *w->per_second);
    w->records.room = RECORDS_MAX / o->threads;
    w->scratch = must_alloc(SCRATCH, 1);
    w->tags = script_tags(script);
    w->rule_tags = must_alloc(o->tag_rule_count, sizeof *w->rule_tags);
    for (size_t i = 0; i < o->tag_rule_count; i++) {
        w->rule_tags[i] = tag_number(w->tags, o->tag_rules[i].name.data, o->tag_rules[i].name.len);
    }
    w->loop.epoll_fd = w->loop.timer_fd = -1;
    for (uint32_t i = 0; i < w->conn_max; i++) {
        w->conns[i].fd = -1;
        if (run->tls) w->conns[i].tls = tls_new(run->tls);
    }
    for (uint32_t i = 0; i < w->conn_count; i++) conn_list_append(&w->closed, &w->conns[i]);
}

bool worker_learn_script(struct worker *w) {
    const char *text;
    size_t len;
    w->has_request = script_has(w->script, "request");
    w->has_delay = script_has(w->script, "delay");
    w->has_response = script_has(w->script, "response");
    if (w->has_request) return true;
    if (!script_request(w->script, &text, &len)) return false;
    buffer_append(&w->fixed_text, text, len);
    const char *authority = w->run->options->url.authority;
    const char *wrong = request_prepare(w->fixed_text.data, w->fixed_text.len, authority, &w->batch);
    return wrong ? script_blame_request(w->script, wrong) : true;
}

static void handle_events(struct worker *w, int n) {
    for (int i = 0; i < n; i++) {
        void *owner = w->loop.events[i].data.ptr;
        if (owner == w->run) continue; /* flags say it */
        if (owner) worker_handle(w, owner, w->loop.events[i].events);
    }
}

static uint64_t earliest(uint64_t a, uint64_t b) { return a < b ? a : b; }

static bool stopped(const struct worker *w) { return atomic_load(&w->run->stop) || atomic_load(&w->stop); }

static uint64_t network_deadline(const struct worker *w) {
    uint64_t deadline = LOOP_FOREVER;
    if (w->in_flight.head) deadline = earliest(deadline, w->in_flight.head->when_ns);
    if (w->connecting.head) deadline = earliest(deadline, w->connecting.head->when_ns);
    return w->ended ? deadline : earliest(deadline, worker_open_deadline(w));
}

/* Wait for events and timeouts once. Time-outs come after the events, which may hold the awaited answer. */
static bool turn(struct worker *w, uint64_t deadline) {
    int n = loop_wait(&w->loop, earliest(deadline, network_deadline(w)));
    handle_events(w, n);
    uint64_t now = now_ns();
    if (n < LOOP_EVENTS) worker_expire(w, now);
    if (!w->ended) worker_open_due(w, now);
    return n == 0;
}

/* Try every connection once; leave when all have an answer or the time is up: the wanted start (if there is one)
 * with at least one connection open, the timeout without. */
static void open_all(struct worker *w) {
    uint64_t start_at = w->run->options->start_at_ns, latest = now_ns() + w->run->options->timeout_ns;
    uint64_t wanted = start_at ? earliest(latest, start_at - earliest(start_at, OPEN_MARGIN_NS)) : latest;
    worker_open_due(w, now_ns());
    while (w->idle.count + w->failed_count < w->conn_count && !stopped(w)) {
        uint64_t deadline = w->idle.count ? wanted : latest;
        if (now_ns() >= deadline) return;
        turn(w, deadline);
    }
}

/* Raise a counter of the main thread, and wait until it sets the flag. */
static void wait_for(struct run *run, atomic_uint *counter, const bool *flag) {
    uint64_t one = 1;
    atomic_fetch_add(counter, 1);
    if (write(run->progress_fd, &one, sizeof one) < 0) run_stop(run);
    pthread_mutex_lock(&run->lock);
    while (!*flag) pthread_cond_wait(&run->changed, &run->lock);
    pthread_mutex_unlock(&run->lock);
}

void worker_take_slots(struct worker *w, uint64_t more, bool in_window) {
    if (in_window) w->tally.offered += more;
    for (; more && w->due.count; more--) w->tally.offered -= due_pop(&w->due) >= w->run->window_start_ns;
    w->taken_ahead += more;
}

static void enqueue(struct worker *w, uint64_t intended) {
    if (w->taken_ahead) {
        w->taken_ahead--;
        return;
    }
    if (intended >= w->run->window_start_ns) w->tally.offered++;
    due_push(&w->due, intended);
}

/* Ask the script how long to delay the next slot. */
static bool delay_slot(struct worker *w) {
    double milliseconds;
    if (!script_delay(w->script, &milliseconds)) {
        run_stop(w->run);
        return false;
    }
    heap_push(&w->delayed, w->next_slot_ns + (uint64_t)nearbyint(milliseconds * 1e6));
    return true;
}

/* Move what is due by now from the schedule to the queue. */
static void take_due(struct worker *w, uint64_t now) {
    while (w->next_slot_ns <= now && w->next_slot_ns < w->window_end_ns && w->due.count < DUE_MAX) {
        if (!w->has_delay) enqueue(w, w->next_slot_ns);
        else if (!delay_slot(w)) return;
        w->next_slot_ns = pacer_next(&w->pacer);
    }
    while (w->delayed.count && w->delayed.times[0] <= now && w->delayed.times[0] < w->window_end_ns) {
        enqueue(w, heap_pop(&w->delayed));
    }
}

/* How many more are due than there is room for in the queue: as many as the schedule says, on the average. */
static uint64_t due_beyond_queue(const struct worker *w, uint64_t now) {
    const struct run *run = w->run;
    if (w->next_slot_ns > now) return 0;
    double asked = schedule_count(&run->schedule, now - run->start_ns);
    return (uint64_t)fmax(0, (asked - w->pacer.requests) / run->options->threads) + 1;
}

static void send_due(struct worker *w) {
    while (w->due.count && w->idle.head && !atomic_load(&w->run->stop)) worker_send(w, w->idle.head, due_pop(&w->due));
}

/* Open a connection for each request that waits for one, unless the target refuses those that there are. */
static void grow(struct worker *w, uint64_t now) {
    if (w->paused.count) return;
    while (w->conn_count < w->conn_max && w->due.count > w->connecting.count + w->closed.count) {
        conn_list_append(&w->closed, &w->conns[w->conn_count++]);
        w->grown++;
    }
    worker_open_due(w, now);
}

static void dispatch(struct worker *w, uint64_t now) {
    send_due(w);
    if (w->due.count && w->conn_count < w->conn_max && !w->ended) {
        grow(w, now);
        send_due(w); /* a connection to this machine may be open at once */
    }
    while (w->due.count && worker_unreachable(w)) worker_give_up(w, OUTCOME_CONNECT_ERROR, due_pop(&w->due), now);
    if (w->due.count && now >= w->run->window_start_ns) {
        uint64_t waiting = w->due.count + due_beyond_queue(w, now);
        if (waiting > w->tally.backlog_max) w->tally.backlog_max = waiting;
    }
}

/* The window is over: send what finds a free connection; the rest of what is due remains unsent. */
static void end_window(struct worker *w, uint64_t now) {
    w->ended = true;
    w->drain_end_ns = w->window_end_ns + w->run->options->drain_ns;
    for (;;) {
        take_due(w, now);
        if (w->due.count == 0) return;
        if (!w->interrupted) dispatch(w, now);
        while (w->due.count) worker_give_up(w, OUTCOME_UNSENT, due_pop(&w->due), now);
    }
}

/* What is in flight will not be waited for. */
static void abandon(struct worker *w, uint64_t now) {
    for (struct conn *c = w->in_flight.head; c; c = c->next) worker_finish(w, c, OUTCOME_UNANSWERED, now);
}

static void interrupt(struct worker *w, uint64_t now) {
    w->interrupted = true;
    w->window_end_ns = earliest(w->window_end_ns, now);
    if (!w->ended) end_window(w, now);
    abandon(w, now);
}

/* How long before a request is due to stop sleeping: as long as waking takes, at most a tenth of the time between
 * requests, for what is left of it is spun away. */
static uint64_t wake_lead(const struct worker *w) {
    const struct options *o = w->run->options;
    double most = LEAD_SHARE * (double)NS_PER_S * o->threads / o->rate_rps;
    uint64_t lead = (uint64_t)fmin((double)waking_lead_ns(&w->waking), most);
    return lead > o->busy_poll_ns ? lead : o->busy_poll_ns;
}

/* When the schedule next needs attention: it cannot send while no connection is free. */
static uint64_t schedule_deadline(const struct worker *w) {
    if (w->ended) return w->drain_end_ns;
    uint64_t deadline = w->window_end_ns;
    if (!w->at_start_noted) deadline = earliest(deadline, w->run->window_start_ns);
    bool can_send = w->idle.head || (w->conn_count < w->conn_max && w->due.count < DUE_MAX);
    if (!can_send && !w->has_delay && !worker_unreachable(w)) return deadline;
    uint64_t due = w->next_slot_ns;
    if (w->delayed.count) due = earliest(due, w->delayed.times[0]);
    uint64_t lead = wake_lead(w);
    return earliest(deadline, due - earliest(due, lead));
}

static void note_start(struct worker *w, uint64_t now) {
    if (w->at_start_noted || now < w->run->window_start_ns) return;
    w->at_start_noted = true;
    w->reached_at_start = w->idle.count + w->in_flight.count;
}

static bool has_unfinished(const struct worker *w, uint64_t before) {
    size_t queued = w->has_delay ? w->due.count : w->due.count > 0; /* in order, unless the script delays some */
    if (w->next_slot_ns < before || (w->delayed.count && w->delayed.times[0] < before)) return true;
    for (size_t i = 0; i < queued; i++) {
        if (due_at(&w->due, i) < before) return true;
    }
    for (const struct conn *c = w->in_flight.head; c; c = c->next) {
        if (c->request.intended_ns < before) return true;
    }
    return false;
}

/* Answer a look: has all ended that was due before it? */
static void tell_settled(struct worker *w) {
    uint64_t before = atomic_load(&w->run->look_ns);
    if (before > atomic_load(&w->settled_ns) && !has_unfinished(w, before)) atomic_store(&w->settled_ns, before);
}

static void generate(struct worker *w) {
    struct run *run = w->run;
    w->pacer = pacer_make(&run->schedule, run->options->distribution, run->seed, run->start_ns, w->index,
                          run->options->threads);
    w->next_slot_ns = pacer_next(&w->pacer);
    w->window_end_ns = run->window_end_ns;
    queue_track_open(&w->waiting, run->window_start_ns, run->window_end_ns);
    for (;;) {
        uint64_t now = now_ns();
        note_start(w, now);
        tell_settled(w);
        w->window_end_ns = earliest(w->window_end_ns, atomic_load(&run->end_ns));
        if (atomic_load(&run->ending) == ENDED_BY_PRECISION) return; /* what was due in the window has ended */
        if (stopped(w)) {
            interrupt(w, now);
            return;
        }
        if (!w->ended && now >= w->window_end_ns) {
            end_window(w, now);
        } else if (!w->ended) {
            take_due(w, now);
            dispatch(w, now);
        }
        if (w->ended && now >= w->drain_end_ns) abandon(w, now);
        if (w->ended && (w->in_flight.count == 0 || now >= w->drain_end_ns)) return;
        uint64_t wanted = schedule_deadline(w);
        if (turn(w, wanted) && wanted > now) waking_learn(&w->waking, wanted, now_ns());
    }
}

void *worker_main(void *argument) {
    struct worker *w = argument;
    w->tid = gettid();
    loop_sharpen_timers();
    if (loop_open(&w->loop) == 0 && loop_add(&w->loop, w->run->wake_fd, EPOLLIN | EPOLLET, w->run) == 0) open_all(w);
    else w->broken = errno;
    wait_for(w->run, &w->run->ready, &w->run->may_go);
    if (!atomic_load(&w->run->cancelled)) generate(w);
    wait_for(w->run, &w->run->finished, &w->run->may_leave);
    return NULL;
}

void worker_free(struct worker *w) {
    for (uint32_t i = 0; i < w->conn_max; i++) conn_free(&w->conns[i]);
    free(w->conns);
    loop_close(&w->loop);
    due_free(&w->due);
    heap_free(&w->delayed);
    tally_free(&w->tally);
    tagged_free(&w->tagged);
    record_log_free(&w->records);
    queue_track_free(&w->waiting);
    free(w->rule_tags);
    buffer_free(&w->fixed_text);
    request_batch_free(&w->batch);
    free(w->per_second);
    free(w->scratch);
    script_close(w->script);
}
