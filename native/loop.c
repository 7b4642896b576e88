#include "loop.h"

#include <errno.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "clock.h"

int loop_open(struct loop *loop) {
    loop->timer_fd = -1;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return loop->epoll_fd < 0 ? -1 : 0;
}

void loop_close(struct loop *loop) {
    if (loop->timer_fd >= 0) close(loop->timer_fd);
    if (loop->epoll_fd >= 0) close(loop->epoll_fd);
}

int loop_add(struct loop *loop, int fd, uint32_t events, void *owner) {
    struct epoll_event event = {.events = events, .data.ptr = owner};
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

int loop_modify(struct loop *loop, int fd, uint32_t events, void *owner) {
    struct epoll_event event = {.events = events, .data.ptr = owner};
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, fd, &event);
}

static int wait_with_timer(struct loop *loop, uint64_t deadline_ns) {
    struct itimerspec when = {.it_value = ns_to_timespec(deadline_ns)};
    timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    return epoll_wait(loop->epoll_fd, loop->events, LOOP_EVENTS, -1);
}

static int start_timer(struct loop *loop) {
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return loop->timer_fd < 0 ? -1 : loop_add(loop, loop->timer_fd, EPOLLIN, NULL);
}

static int wait_exactly(struct loop *loop, uint64_t deadline_ns, uint64_t now) {
    struct timespec left = ns_to_timespec(deadline_ns - now);
    if (loop->timer_fd < 0) {
#ifdef SYS_epoll_pwait2
        long n = syscall(SYS_epoll_pwait2, loop->epoll_fd, loop->events, LOOP_EVENTS, &left, NULL, (size_t)0);
        if (n >= 0 || errno != ENOSYS) return (int)n;
#endif
        if (start_timer(loop) < 0) return epoll_wait(loop->epoll_fd, loop->events, LOOP_EVENTS, 1);
    }
    return wait_with_timer(loop, deadline_ns);
}

int loop_wait(struct loop *loop, uint64_t deadline_ns) {
    int n;
    if (deadline_ns == LOOP_FOREVER) {
        n = epoll_wait(loop->epoll_fd, loop->events, LOOP_EVENTS, -1);
    } else {
        uint64_t now = now_ns();
        n = now >= deadline_ns ? epoll_wait(loop->epoll_fd, loop->events, LOOP_EVENTS, 0)
                               : wait_exactly(loop, deadline_ns, now);
    }
    uint64_t expirations;
    /* Taken off, lest an expired timer keeps the set ready; it does not block. */
    if (loop->timer_fd >= 0 && read(loop->timer_fd, &expirations, sizeof expirations) < 0) errno = 0;
    return n < 0 ? 0 : n;
}

void loop_sharpen_timers(void) { prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); }
