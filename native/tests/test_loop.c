/* Waiting: until a deadline with either kind of timer, never before it, and at once for what is ready. */
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "check.h"
#include "clock.h"
#include "loop.h"

/* Make the loop use a timerfd, as on kernels without epoll_pwait2. */
static void force_timerfd(struct loop *loop) {
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    CHECK_INT(0, loop_add(loop, loop->timer_fd, EPOLLIN, NULL));
}

static void waits_last_until_the_deadline(struct loop *loop) {
    for (int i = 0; i < 20; i++) {
        uint64_t deadline = now_ns() + 300 * NS_PER_US;
        int n;
        while ((n = loop_wait(loop, deadline)) == 0 && now_ns() < deadline) continue;
        CHECK(now_ns() >= deadline);
        CHECK(n == 0 || (n == 1 && loop->events[0].data.ptr == NULL));
    }
}

static void past_deadlines_only_look(struct loop *loop) {
    CHECK_INT(0, loop_wait(loop, now_ns() - 1));
    CHECK_INT(0, loop_wait(loop, 0));
}

static void what_is_ready_comes_back_with_its_owner(struct loop *loop) {
    int owner, fd = eventfd(1, EFD_CLOEXEC);
    CHECK_INT(0, loop_add(loop, fd, EPOLLIN, &owner));
    CHECK_INT(1, loop_wait(loop, LOOP_FOREVER));
    CHECK(loop->events[0].data.ptr == &owner && (loop->events[0].events & EPOLLIN));
    CHECK_INT(1, loop_wait(loop, now_ns() + NS_PER_S));
    CHECK_INT(0, loop_modify(loop, fd, 0, &owner));
    CHECK_INT(0, loop_wait(loop, 0));
    close(fd);
}

int main(void) {
    for (int timerfd = 0; timerfd < 2; timerfd++) {
        struct loop loop;
        CHECK_INT(0, loop_open(&loop));
        if (timerfd) force_timerfd(&loop);
        loop_sharpen_timers();
        waits_last_until_the_deadline(&loop);
        past_deadlines_only_look(&loop);
        what_is_ready_comes_back_with_its_owner(&loop);
        loop_close(&loop);
    }
    return check_result();
}
