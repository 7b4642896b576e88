/* Steps of an exchange: each runs to its end, or starts something that resumes its branch later. */
#include <stdlib.h>
#include <string.h>

#include "mesh/service.h"

#define STATE_BLOCK_BYTES 65536u

enum begun { BEGUN_DONE, BEGUN_WAITING, BEGUN_FAILED };

static void job_done(void *owner) { branch_resume(owner, false); }

static enum begun compute(struct branch *b, uint64_t iterations, const struct memory_step *memory) {
    b->job = (struct job){.iterations = iterations, .done = job_done, .owner = b};
    if (memory) {
        b->job.touch_bytes = memory->touch_bytes;
        b->job.working_set_bytes = memory->working_set_bytes;
    }
    return compute_run(b->exchange->service->compute, &b->job) ? BEGUN_DONE : BEGUN_WAITING;
}

static void wait_over(void *owner) { branch_resume(owner, false); }

static enum begun wait_some(struct branch *b, const struct wait *wait) {
    struct service *s = b->exchange->service;
    uint64_t ns = wait_draw_ns(wait, &s->rng);
    if (ns == 0) return BEGUN_DONE;
    b->timer = (struct timer){.fire = wait_over, .owner = b};
    timer_set(&s->timers, &b->timer, now_ns() + ns);
    return BEGUN_WAITING;
}

static enum begun keep_state(struct branch *b, const struct state_step *step) {
    struct service *s = b->exchange->service;
    uint64_t room = step->limit_bytes > s->state_bytes ? step->limit_bytes - s->state_bytes : 0;
    for (uint64_t left = step->write_bytes < room ? step->write_bytes : room; left;) {
        uint64_t used = s->state_bytes % STATE_BLOCK_BYTES, free_bytes = STATE_BLOCK_BYTES - used;
        uint64_t n = left < free_bytes ? left : free_bytes;
        if (used == 0) {
            struct state_block *block = must_alloc(1, sizeof *block + STATE_BLOCK_BYTES);
            block->next = s->state;
            s->state = block;
        }
        memset(s->state->data + used, 'x', n);
        s->state_bytes += n;
        left -= n;
    }
    return compute(b, (uint64_t)(step->scan_iterations_per_byte * (double)s->state_bytes), NULL);
}

static enum begun fail(struct branch *b, const struct fail_step *step) {
    uint64_t age = now_ns() - b->exchange->service->started_ns;
    if (step->every_ns) age %= step->every_ns;
    if (step->windowed && (age < step->from_ns || age >= step->to_ns)) return BEGUN_DONE;
    exchange_fail(b->exchange, step->status, "fails, as its steps say");
    return BEGUN_FAILED;
}

static struct branch *add_branch(struct branch *parent, const struct steps *steps) {
    struct branch *b = must_alloc(1, sizeof *b);
    b->exchange = parent->exchange;
    b->parent = parent;
    b->steps = steps;
    parent->pending++;
    return b;
}

/* What `parent` waits for, once all of it was started: `pending` is one too high until then. */
static enum begun started(struct branch *parent) {
    if (--parent->pending) return BEGUN_WAITING;
    return parent->failed ? BEGUN_FAILED : BEGUN_DONE;
}

static enum begun parallel(struct branch *b, const struct groups *groups) {
    b->pending = 1;
    for (uint32_t i = 0; i < groups->count; i++) branch_run(add_branch(b, &groups->list[i].steps));
    return started(b);
}

static enum begun choose(struct branch *b, const struct groups *groups) {
    double at = rng_unit(&b->exchange->service->rng) * groups->weight;
    uint32_t i = 0;
    while (i + 1 < groups->count && at >= groups->list[i].weight) at -= groups->list[i++].weight;
    b->pending = 1;
    branch_run(add_branch(b, &groups->list[i].steps));
    return started(b);
}

static uint64_t cache_key(struct branch *b, const struct cache_step *step) {
    struct http_text value = {0};
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    if (!step->key) return zipf_draw(&step->keys, &b->exchange->service->rng);
    exchange_parameter(b->exchange, step->key, &value);
    for (size_t i = 0; i < value.len; i++) hash = (hash ^ (unsigned char)value.data[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static enum begun look_up(struct branch *b, const struct cache_step *step) {
    struct service *s = b->exchange->service;
    struct lru *cache = step->by_ratio ? NULL : s->caches[step->cache];
    uint64_t key = cache ? cache_key(b, step) : 0;
    bool hit = cache ? lru_touch(cache, key) : rng_unit(&s->rng) < step->hit_ratio;
    if (hit) return BEGUN_DONE;
    b->pending = 1;
    struct branch *miss = add_branch(b, &step->miss);
    miss->cache = cache;
    miss->key = key;
    branch_run(miss);
    return started(b);
}

static enum begun begin(struct branch *b, const struct step *step) {
    switch (step->kind) {
    case STEP_CPU:
        return compute(b, step->iterations, NULL);
    case STEP_WAIT:
        return wait_some(b, &step->wait);
    case STEP_MEMORY:
        return compute(b, 0, &step->memory);
    case STEP_STATE:
        return keep_state(b, &step->state);
    case STEP_FAIL:
        return fail(b, &step->fail);
    case STEP_CALL:
        call_begin(b, &step->call);
        return BEGUN_WAITING; /* even if it has ended meanwhile, and the branch with it */
    case STEP_CACHE:
        return look_up(b, &step->cache);
    case STEP_PARALLEL:
        return parallel(b, &step->groups);
    default:
        return choose(b, &step->groups);
    }
}

static void end(struct branch *b) {
    struct branch *parent = b->parent;
    if (!parent) {
        exchange_end(b->exchange);
        return;
    }
    bool failed = b->failed;
    if (!failed && b->cache) lru_add(b->cache, b->key);
    free(b);
    parent->failed |= failed;
    if (--parent->pending == 0) branch_resume(parent, parent->failed);
}

void branch_run(struct branch *b) {
    struct rng *rng = &b->exchange->service->rng;
    while (b->at < b->steps->count && !b->failed) {
        const struct step *step = &b->steps->list[b->at++];
        if (step->probability < 1.0 && rng_unit(rng) >= step->probability) continue;
        enum begun begun = begin(b, step);
        if (begun == BEGUN_WAITING) return;
        b->failed = begun == BEGUN_FAILED;
    }
    end(b);
}

void branch_resume(struct branch *b, bool failed) {
    b->failed = failed;
    branch_run(b);
}
