/* Waits become means over any part of the window, whatever their length. */
#include "check.h"
#include "queue_track.h"

#define S 1000000000ull

static void means_are_those_of_the_waits(void) {
    struct queue_track q;
    queue_track_open(&q, 10 * S, 14 * S);
    queue_track_wait(&q, 9 * S, 11 * S);        /* the part before the window does not count */
    queue_track_wait(&q, 10 * S, 12 * S + S / 2);
    queue_track_wait(&q, 13 * S, 99 * S);       /* nor the part after it */
    queue_track_wait(&q, 20 * S, 30 * S);
    queue_track_wait(&q, 11 * S, 11 * S);
    CHECK_NEAR(2, queue_track_mean(&q, 10 * S, 11 * S), 1e-6);
    CHECK_NEAR(1, queue_track_mean(&q, 11 * S, 12 * S), 1e-6);
    CHECK_NEAR(0.5, queue_track_mean(&q, 12 * S, 13 * S), 1e-6);
    CHECK_NEAR(1, queue_track_mean(&q, 13 * S, 14 * S), 1e-6);
    CHECK_NEAR(4.5 / 4, queue_track_mean(&q, 10 * S, 14 * S), 1e-6);
    CHECK_NEAR(0, queue_track_mean(&q, 12 * S, 12 * S), 0);
    queue_track_free(&q);
}

static void threads_add_up(void) {
    struct queue_track a, b;
    queue_track_open(&a, 0, S);
    queue_track_open(&b, 0, S);
    queue_track_wait(&a, 0, S / 4);
    queue_track_wait(&b, 0, S / 2);
    queue_track_merge(&a, &b);
    CHECK_NEAR(0.75, queue_track_mean(&a, 0, S), 1e-6);
    CHECK_NEAR(1.5, queue_track_mean(&a, 0, S / 2), 1e-6);
    queue_track_free(&a);
    queue_track_free(&b);
}

static void long_and_short_windows_fit(void) {
    static const uint64_t lengths[] = {1, 1000, S, 3600 * S, 1000000 * S};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct queue_track q;
        queue_track_open(&q, S, S + lengths[i]);
        queue_track_wait(&q, S, S + lengths[i]);
        CHECK_NEAR(1, queue_track_mean(&q, S, S + lengths[i]), 1e-3);
        queue_track_free(&q);
    }
}

int main(void) {
    means_are_those_of_the_waits();
    threads_add_up();
    long_and_short_windows_fit();
    return check_result();
}
