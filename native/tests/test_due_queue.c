/* The queue keeps its order through growth and wrap-around; the heap sorts. */
#include "check.h"
#include "due_queue.h"

static void the_queue_is_first_in_first_out(void) {
    struct due_queue q = {0};
    uint64_t in = 0, out = 0;
    for (int round = 0; round < 2000; round++) {
        for (int i = 0; i < 7; i++) due_push(&q, in++);
        for (int i = 0; i < 5; i++) {
            CHECK_INT(out, due_at(&q, 0));
            CHECK_INT(out++, due_pop(&q));
        }
    }
    while (q.count) CHECK_INT(out++, due_pop(&q));
    CHECK_INT(in, out);
    due_free(&q);
}

static void the_heap_sorts(void) {
    struct due_heap h = {0};
    uint64_t seed = 1, last = 0;
    for (int i = 0; i < 5000; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        heap_push(&h, seed >> 50);
    }
    for (int i = 0; i < 5000; i++) {
        uint64_t time = heap_pop(&h);
        CHECK(time >= last);
        last = time;
    }
    CHECK_INT(0, h.count);
    heap_free(&h);
}

int main(void) {
    the_queue_is_first_in_first_out();
    the_heap_sorts();
    return check_result();
}
