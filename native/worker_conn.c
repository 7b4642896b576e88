/* A worker's connections: open, reopen with a pause, receive, time out. */
#include <errno.h>
#include <unistd.h>

#include "clock.h"
#include "run.h"

#define SCRATCH (64u << 10)
#define RETRY_NS (50 * NS_PER_MS)
#define SHORT_LIFE_NS NS_PER_S
#define CONNECTING_MAX 64u /* at once: more overflow the listen queues of small servers */

static uint32_t reached(const struct worker *w) { return w->idle.count + w->in_flight.count; }

bool worker_unreachable(const struct worker *w) { return reached(w) == 0 && w->failed_count == w->conn_count; }

static void set_failed(struct worker *w, struct conn *c, bool failed) {
    if (c->failed == failed) return;
    c->failed = failed;
    if (failed) w->failed_count++;
    else w->failed_count--;
}

static void pause_conn(struct worker *w, struct conn *c, uint64_t now) {
    c->when_ns = now + RETRY_NS;
    conn_list_append(&w->paused, c);
}

/* Move what has paused long enough (or all, when the target answers again) to those to be opened. */
static void end_pauses(struct worker *w, uint64_t until) {
    for (struct conn *c = w->paused.head; c && c->when_ns <= until; c = w->paused.head) {
        conn_list_remove(&w->paused, c);
        conn_list_append(&w->closed, c);
    }
}

static void make_idle(struct worker *w, struct conn *c, uint64_t now) {
    c->state = CONN_IDLE;
    c->idle_since_ns = now;
    conn_list_append(&w->idle, c);
    if (reached(w) > w->reached_max) w->reached_max = reached(w);
}

static void established(struct worker *w, struct conn *c, uint64_t now) {
    bool was_unreachable = worker_unreachable(w);
    c->opened_ns = now;
    set_failed(w, c, false);
    make_idle(w, c, now);
    if (was_unreachable) end_pauses(w, UINT64_MAX);
}

static void open_failed(struct worker *w, struct conn *c, int error, uint64_t now) {
    set_failed(w, c, true);
    w->connect_failure = conn_failure(c, error);
    if (conn_error_is_local(error)) w->open_failures++;
    pause_conn(w, c, now);
}

static const struct address *target_of(const struct worker *w, const struct conn *c) {
    const struct addresses *targets = &w->run->targets;
    size_t number = (size_t)(c - w->conns) * w->run->options->threads + w->index;
    return w->script_thread.moved ? &w->script_thread.address : &targets->at[number % targets->count];
}

static void open_one(struct worker *w, uint64_t now) {
    struct conn *c = w->closed.head;
    const struct address *to = target_of(w, c);
    conn_list_remove(&w->closed, c);
    int error = conn_open(c, &w->loop, (const struct sockaddr *)&to->storage, to->len);
    if (error) {
        open_failed(w, c, error, now);
    } else if (c->state == CONN_IDLE) {
        established(w, c, now);
    } else {
        c->when_ns = now + w->run->options->timeout_ns;
        conn_list_append(&w->connecting, c);
    }
}

void worker_open_due(struct worker *w, uint64_t now) {
    end_pauses(w, now);
    while (w->closed.head && w->connecting.count < CONNECTING_MAX) {
        if (!worker_unreachable(w)) {
            open_one(w, now);
            continue;
        }
        /* While nobody answers, one connection at a time knocks. */
        if (w->connecting.count || now < w->next_knock_ns) return;
        w->next_knock_ns = now + RETRY_NS;
        open_one(w, now);
    }
}

uint64_t worker_open_deadline(const struct worker *w) {
    if (w->closed.head && w->connecting.count == 0) return w->next_knock_ns;
    return w->paused.head ? w->paused.head->when_ns : LOOP_FOREVER;
}

/* Close a connection that is on no list, and open it again: at once, or after a pause if it was of no use. */
static void reopen(struct worker *w, struct conn *c, uint64_t now) {
    bool useless = !c->used && now - c->opened_ns < SHORT_LIFE_NS;
    conn_close(c);
    if (useless) {
        set_failed(w, c, true);
        pause_conn(w, c, now);
        return;
    }
    conn_list_append(&w->closed, c);
    if (!w->ended) worker_open_due(w, now);
}

void worker_drop(struct worker *w, struct conn *c, uint64_t now) {
    conn_list_remove(c->state == CONN_BUSY ? &w->in_flight : &w->idle, c);
    reopen(w, c, now);
}

/* A connection of no more use takes what it still carries along. */
static void break_off(struct worker *w, struct conn *c, enum outcome outcome, uint64_t now) {
    worker_finish(w, c, outcome, now);
    worker_drop(w, c, now);
}

/* One response has come. */
static void answered(struct worker *w, struct conn *c, bool reusable, uint64_t now) {
    enum verdict verdict = VERDICT_NONE;
    if (w->has_response && !script_response(w->script, &c->reader, &verdict)) run_stop(w->run);
    bool more = worker_finish_one(w, c, outcome_of_status(c->reader.head.status, verdict), now);
    if (more && !reusable) {
        break_off(w, c, OUTCOME_READ_ERROR, now);
    } else if (!reusable) {
        worker_drop(w, c, now);
    } else if (!more) {
        conn_list_remove(&w->in_flight, c);
        make_idle(w, c, now);
    }
}

static void receive(struct worker *w, struct conn *c) {
    do {
        bool reusable = false;
        enum received got = conn_receive(c, w->scratch, SCRATCH, &reusable);
        uint64_t now = now_ns();
        if (got == RECEIVED_RESPONSE) answered(w, c, reusable, now);
        else if (got == RECEIVED_BAD) break_off(w, c, OUTCOME_MALFORMED, now);
        else if (got == RECEIVED_CLOSED) break_off(w, c, OUTCOME_READ_ERROR, now);
    } while (c->unread_len);
}

/* Nothing is owed on an idle connection: whatever comes, its end or stray bytes, ends it. */
static void look_at_idle(struct worker *w, struct conn *c) {
    if (!conn_is_quiet(c, w->scratch, SCRATCH)) worker_drop(w, c, now_ns());
}

static void go_on_connecting(struct worker *w, struct conn *c) {
    uint64_t now = now_ns();
    int error = conn_advance(c, &w->loop);
    if (c->state == CONN_CONNECTING) return;
    conn_list_remove(&w->connecting, c);
    if (error) open_failed(w, c, error, now);
    else established(w, c, now);
}

void worker_handle(struct worker *w, struct conn *c, uint32_t events) {
    switch (c->state) {
    case CONN_CONNECTING:
        go_on_connecting(w, c);
        return;
    case CONN_IDLE:
        look_at_idle(w, c);
        return;
    case CONN_BUSY:
        /* A failed write shows when reading: what the server still said comes first. */
        if ((events & EPOLLOUT) && c->out.len) conn_flush(c, &w->loop);
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(w, c);
        return;
    case CONN_CLOSED:
        return;
    }
}

void worker_expire(struct worker *w, uint64_t now) {
    for (struct conn *c = w->in_flight.head; c && c->when_ns <= now; c = w->in_flight.head) {
        break_off(w, c, OUTCOME_TIMEOUT, now);
    }
    for (struct conn *c = w->connecting.head; c && c->when_ns <= now; c = w->connecting.head) {
        conn_list_remove(&w->connecting, c);
        conn_close(c);
        open_failed(w, c, ETIMEDOUT, now);
    }
}
