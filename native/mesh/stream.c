#include "mesh/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#define OUT_KEPT 4096u

int stream_open(struct stream *s, struct loop *loop, int fd, void (*ready)(struct stream *, uint32_t)) {
    s->fd = fd;
    s->ready = ready;
    s->out_done = 0;
    return loop_add(loop, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, s);
}

int stream_connect(struct stream *s, struct loop *loop, const struct sockaddr *address, socklen_t len,
                   void (*ready)(struct stream *, uint32_t)) {
    int one = 1, error = 0;
    s->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) return errno;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(s->fd, address, len) < 0 && errno != EINPROGRESS) error = errno;
    if (error == 0 && stream_open(s, loop, s->fd, ready) < 0) error = errno;
    if (error) stream_close(s);
    return error;
}

int stream_connected(const struct stream *s) {
    int error = 0;
    socklen_t len = sizeof error;
    return getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? errno : error;
}

/* Write what can be written; return the bytes taken, or -1 with errno. */
static ssize_t write_some(struct stream *s, const char *data, size_t len) {
    ssize_t n = send(s->fd, data, len, MSG_NOSIGNAL);
    return n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOTCONN) ? 0 : n;
}

int stream_send(struct stream *s, const void *data, size_t len) {
    ssize_t n = stream_flushed(s) ? write_some(s, data, len) : 0;
    if (n < 0) return errno;
    buffer_append(&s->out, (const char *)data + n, len - (size_t)n);
    return 0;
}

int stream_flush(struct stream *s) {
    while (!stream_flushed(s)) {
        ssize_t n = write_some(s, s->out.data + s->out_done, s->out.len - s->out_done);
        if (n < 0) return errno;
        if (n == 0) return 0;
        s->out_done += (size_t)n;
    }
    buffer_reset(&s->out, OUT_KEPT);
    s->out_done = 0;
    return 0;
}

bool stream_flushed(const struct stream *s) { return s->out_done == s->out.len; }

void stream_close(struct stream *s) {
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    s->out_done = 0;
    buffer_free(&s->out);
}
