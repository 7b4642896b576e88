/* An epoll set that waits with nanosecond deadlines (epoll_pwait2, or a timerfd where the kernel lacks it). */
#ifndef AEFM_LOOP_H
#define AEFM_LOOP_H

#include <stdint.h>
#include <sys/epoll.h>

#define LOOP_EVENTS 128
#define LOOP_FOREVER UINT64_MAX

struct loop {
    int epoll_fd;
    int timer_fd; /* -1 while epoll_pwait2 serves */
    struct epoll_event events[LOOP_EVENTS];
};

/* Return 0, or -1 with errno. */
int loop_open(struct loop *loop);
void loop_close(struct loop *loop);

/* Watch `fd`; `owner` comes back in events[i].data.ptr. Closing the fd ends the watch. Return 0, or -1 with errno. */
int loop_add(struct loop *loop, int fd, uint32_t events, void *owner);
int loop_modify(struct loop *loop, int fd, uint32_t events, void *owner);

/* Wait until something is ready or CLOCK_MONOTONIC reaches `deadline_ns` (past: only look). Return the number of
 * events; 0 at the deadline or after a signal. An event of the timer itself has a NULL owner. */
int loop_wait(struct loop *loop, uint64_t deadline_ns);

/* Ask the kernel not to coalesce the calling thread's timers. */
void loop_sharpen_timers(void);

#endif
