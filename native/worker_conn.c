/* A worker's connections: open, reopen with a pause, send, receive, time out. */
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
    w->connect_error = error;
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

/* The tally of a tag; with the first name, all requests so far were those without one. */
static struct tally *tally_of_tag(struct worker *w, uint32_t tag) {
    if (w->tagged.count == 0) tally_merge(tagged_tally(&w->tagged, TAG_NONE), &w->tally);
    return tagged_tally(&w->tagged, tag);
}

static void count(struct tally *t, const struct request *r, enum outcome outcome, uint64_t end_ns) {
    tally_value(&t->latency[outcome], r->intended_ns, end_ns);
    t->bytes_read += r->bytes_read;
    t->bytes_written += r->bytes_written;
}

static void remember(struct worker *w, const struct request *r, enum outcome outcome, uint64_t sent_ns, uint64_t end_ns) {
    uint64_t due = r->intended_ns, late = sent_ns > due ? sent_ns - due : 0, took = end_ns > due ? end_ns - due : 0;
    record_add(&w->records, record_make(due - w->run->window_start_ns, late, took, outcome, r->waited, r->tag));
}

void worker_finish(struct worker *w, struct conn *c, enum outcome outcome, uint64_t end_ns) {
    const struct request *r = &c->request;
    struct tally *t = &w->tally;
    if (!r->in_window) return;
    if (w->tags->count) count(tally_of_tag(w, r->tag), r, outcome, end_ns);
    count(t, r, outcome, end_ns);
    remember(w, r, outcome, r->sent_ns, end_ns);
    if (outcome == OUTCOME_SUCCESS && w->run->options->print_uncorrected) {
        tally_value(&t->uncorrected, r->sent_ns, end_ns);
    }
    size_t second = (size_t)((end_ns - w->run->window_start_ns) / NS_PER_S);
    if (outcome <= OUTCOME_MISMATCH && second < w->seconds) w->per_second[second]++;
}

/* What the script said, else what the rules say. */
static uint32_t find_tag(const struct worker *w, const struct request_text *text) {
    const struct options *o = w->run->options;
    uint32_t tag = script_tag(w->script);
    for (size_t i = 0; tag == TAG_NONE && i < o->tag_rule_count; i++) {
        if (tag_rule_matches(&o->tag_rules[i], text)) tag = w->rule_tags[i];
    }
    return tag;
}

static bool prepare_text(struct worker *w, struct request_text *text, uint32_t *tag) {
    *text = w->fixed;
    if (w->has_request) {
        if (!script_request(w->script, &text->data, &text->len)) return false;
        const char *wrong = request_prepare(text->data, text->len, w->run->options->url.authority, &w->rewritten, text);
        if (wrong) return script_blame_request(w->script, wrong);
    }
    if (w->tags->count) *tag = find_tag(w, text);
    return true;
}

void worker_give_up(struct worker *w, enum outcome outcome, uint64_t intended_ns, uint64_t now) {
    struct request request = {.intended_ns = intended_ns, .waited = true};
    struct request_text text;
    queue_track_wait(&w->waiting, intended_ns, now);
    if (intended_ns < w->run->window_start_ns) return;
    if (w->tags->count) {
        if (!script_error(w->script) && !prepare_text(w, &text, &request.tag)) run_stop(w->run);
        count(tally_of_tag(w, request.tag), &request, outcome, now);
    }
    count(&w->tally, &request, outcome, now);
    remember(w, &request, outcome, now, now);
}

/* Lateness is the pacer's where the connection was free when the request was due, else it waited for one. */
static void note_lateness(struct worker *w, struct conn *c, uint64_t intended, uint64_t sent) {
    bool was_free = c->idle_since_ns <= intended;
    c->request.waited = !was_free;
    if (!was_free) queue_track_wait(&w->waiting, intended, sent);
    if (c->request.in_window) tally_value(was_free ? &w->tally.pacer_lag : &w->tally.backlog, intended, sent);
}

void worker_send(struct worker *w, struct conn *c, uint64_t intended_ns) {
    struct request_text text;
    bool in_window = intended_ns >= w->run->window_start_ns;
    c->request = (struct request){.intended_ns = intended_ns, .in_window = in_window};
    conn_list_remove(&w->idle, c);
    c->state = CONN_BUSY;
    bool fine = prepare_text(w, &text, &c->request.tag);
    uint64_t now = now_ns();
    c->request.sent_ns = now;
    c->when_ns = now + w->run->options->timeout_ns;
    conn_list_append(&w->in_flight, c);
    if (!fine) {
        run_stop(w->run);
        return;
    }
    note_lateness(w, c, intended_ns, now);
    http_reader_start(&c->reader, text.to_head, w->has_response);
    if (conn_send(c, &w->loop, text.data, text.len) != 0) {
        worker_finish(w, c, OUTCOME_READ_ERROR, now_ns());
        worker_drop(w, c, now);
    }
}

static void answered(struct worker *w, struct conn *c, bool reusable, uint64_t now) {
    enum verdict verdict = VERDICT_NONE;
    if (w->has_response && !script_response(w->script, &c->reader, &verdict)) run_stop(w->run);
    worker_finish(w, c, outcome_of_status(c->reader.head.status, verdict), now);
    if (!reusable) {
        worker_drop(w, c, now);
        return;
    }
    conn_list_remove(&w->in_flight, c);
    make_idle(w, c, now);
}

static void receive(struct worker *w, struct conn *c) {
    bool reusable = false;
    enum received got = conn_receive(c, w->scratch, SCRATCH, &reusable);
    uint64_t now = now_ns();
    switch (got) {
    case RECEIVED_MORE:
        return;
    case RECEIVED_RESPONSE:
        answered(w, c, reusable, now);
        return;
    default:
        worker_finish(w, c, got == RECEIVED_BAD ? OUTCOME_MALFORMED : OUTCOME_READ_ERROR, now);
        worker_drop(w, c, now);
    }
}

/* Nothing is owed on an idle connection: whatever comes, its end or stray bytes, ends it. */
static void look_at_idle(struct worker *w, struct conn *c) {
    ssize_t n = recv(c->fd, w->scratch, SCRATCH, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    worker_drop(w, c, now_ns());
}

static void conclude_connect(struct worker *w, struct conn *c) {
    uint64_t now = now_ns();
    conn_list_remove(&w->connecting, c);
    int error = conn_opened(c, &w->loop);
    if (error) open_failed(w, c, error, now);
    else established(w, c, now);
}

void worker_handle(struct worker *w, struct conn *c, uint32_t events) {
    switch (c->state) {
    case CONN_CONNECTING:
        conclude_connect(w, c);
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
        worker_finish(w, c, OUTCOME_TIMEOUT, now);
        worker_drop(w, c, now);
    }
    for (struct conn *c = w->connecting.head; c && c->when_ns <= now; c = w->connecting.head) {
        conn_list_remove(&w->connecting, c);
        conn_close(c);
        open_failed(w, c, ETIMEDOUT, now);
    }
}
