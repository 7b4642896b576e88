/* A worker's requests: made, sent, and accounted for with exactly one outcome each. */
#include "clock.h"
#include "run.h"

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
    struct record made = record_make(due - w->run->window_start_ns, late, took, outcome, r->waited, r->tag);
    record_set_bytes(&made, r->bytes_read, r->bytes_written);
    record_add(&w->records, made);
}

static void finish_current(struct worker *w, const struct conn *c, enum outcome outcome, uint64_t end_ns) {
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

bool worker_finish_one(struct worker *w, struct conn *c, enum outcome outcome, uint64_t end_ns) {
    finish_current(w, c, outcome, end_ns);
    return conn_await_next(c, w->has_response);
}

void worker_finish(struct worker *w, struct conn *c, enum outcome outcome, uint64_t end_ns) {
    while (worker_finish_one(w, c, outcome, end_ns)) {
        if (outcome == OUTCOME_MALFORMED) outcome = OUTCOME_READ_ERROR; /* of those behind it nothing came */
    }
}

/* What the script said, else what the rules say. */
static uint32_t find_tag(const struct worker *w, const struct request_line *line) {
    const struct options *o = w->run->options;
    uint32_t tag = script_tag(w->script);
    for (size_t i = 0; tag == TAG_NONE && i < o->tag_rule_count; i++) {
        if (tag_rule_matches(&o->tag_rules[i], line)) tag = w->rule_tags[i];
    }
    return tag;
}

static uint32_t tag_of(const struct worker *w, const struct request_line *line) {
    return w->tags->count ? find_tag(w, line) : TAG_NONE;
}

/* The next request, or several where the script pipelines; NULL after a script error. */
static const struct request_batch *next_batch(struct worker *w) {
    const char *text;
    size_t len;
    if (!w->has_request) return &w->batch;
    if (!script_request(w->script, &text, &len)) return NULL;
    const char *wrong = request_prepare(text, len, w->run->options->url.authority, &w->batch);
    if (!wrong) return &w->batch;
    script_blame_request(w->script, wrong);
    return NULL;
}

void worker_give_up(struct worker *w, enum outcome outcome, uint64_t intended_ns, uint64_t now) {
    struct request request = {.intended_ns = intended_ns, .waited = true};
    queue_track_wait(&w->waiting, intended_ns, now);
    if (intended_ns < w->run->window_start_ns) return;
    if (w->tags->count) {
        const struct request_batch *batch = script_error(w->script) ? NULL : next_batch(w);
        if (batch) request.tag = tag_of(w, &batch->requests[0]);
        else run_stop(w->run);
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

/* Put a batch on a connection: its requests are due, and leave, together. */
static void load_batch(struct worker *w, struct conn *c, const struct request_batch *batch, uint64_t now) {
    uint64_t intended = c->request.intended_ns;
    c->request.tag = tag_of(w, &batch->requests[0]);
    http_reader_start(&c->reader, batch->requests[0].to_head, w->has_response);
    note_lateness(w, c, intended, now);
    for (size_t i = 1; i < batch->count; i++) {
        conn_follow(c, tag_of(w, &batch->requests[i]), batch->requests[i].to_head);
        note_lateness(w, c, intended, now);
    }
    if (batch->count > 1) worker_take_slots(w, batch->count - 1, c->request.in_window);
}

void worker_send(struct worker *w, struct conn *c, uint64_t intended_ns) {
    bool in_window = intended_ns >= w->run->window_start_ns;
    c->request = (struct request){.intended_ns = intended_ns, .in_window = in_window};
    conn_list_remove(&w->idle, c);
    c->state = CONN_BUSY;
    const struct request_batch *batch = next_batch(w);
    uint64_t now = now_ns();
    c->request.sent_ns = now;
    c->when_ns = now + w->run->options->timeout_ns;
    conn_list_append(&w->in_flight, c);
    if (!batch) {
        run_stop(w->run);
        return;
    }
    load_batch(w, c, batch, now);
    if (conn_send(c, &w->loop, batch->data, batch->len) != 0) {
        worker_finish(w, c, OUTCOME_READ_ERROR, now_ns());
        worker_drop(w, c, now);
    }
}
