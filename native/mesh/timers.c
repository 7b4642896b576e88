#include "mesh/timers.h"

#include <stdlib.h>

#include "buffer.h"

static void put(struct timers *t, uint32_t place, struct timer *timer) {
    t->heap[place] = timer;
    timer->place = place;
}

static void move_up(struct timers *t, uint32_t place, struct timer *timer) {
    while (place > 1 && t->heap[place / 2]->when_ns > timer->when_ns) {
        put(t, place, t->heap[place / 2]);
        place /= 2;
    }
    put(t, place, timer);
}

static void move_down(struct timers *t, uint32_t place, struct timer *timer) {
    for (uint32_t child = place * 2; child <= t->count; child = place * 2) {
        if (child < t->count && t->heap[child + 1]->when_ns < t->heap[child]->when_ns) child++;
        if (t->heap[child]->when_ns >= timer->when_ns) break;
        put(t, place, t->heap[child]);
        place = child;
    }
    put(t, place, timer);
}

void timer_unset(struct timers *t, struct timer *timer) {
    uint32_t place = timer->place;
    if (!place) return;
    struct timer *last = t->heap[t->count--];
    timer->place = 0;
    if (last == timer) return;
    if (last->when_ns < timer->when_ns) move_up(t, place, last);
    else move_down(t, place, last);
}

void timer_set(struct timers *t, struct timer *timer, uint64_t when_ns) {
    timer_unset(t, timer);
    timer->when_ns = when_ns;
    if (t->count + 1 >= t->capacity) {
        t->capacity = t->capacity ? t->capacity * 2 : 64;
        t->heap = must_realloc(t->heap, t->capacity, sizeof *t->heap);
    }
    move_up(t, ++t->count, timer);
}

uint64_t timers_next_ns(const struct timers *t) { return t->count ? t->heap[1]->when_ns : UINT64_MAX; }

void timers_fire(struct timers *t, uint64_t now) {
    while (t->count && t->heap[1]->when_ns <= now) {
        struct timer *timer = t->heap[1];
        timer_unset(t, timer);
        timer->fire(timer->owner);
    }
}

void timers_free(struct timers *t) { free(t->heap); }
