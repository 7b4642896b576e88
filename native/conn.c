#include "conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#define OUT_CAPACITY 4096u

void conn_list_append(struct conn_list *list, struct conn *c) {
    c->next = NULL;
    c->previous = list->tail;
    if (list->tail) list->tail->next = c;
    else list->head = c;
    list->tail = c;
    list->count++;
}

void conn_list_remove(struct conn_list *list, struct conn *c) {
    if (c->previous) c->previous->next = c->next;
    else list->head = c->next;
    if (c->next) c->next->previous = c->previous;
    else list->tail = c->previous;
    c->previous = c->next = NULL;
    list->count--;
}

bool conn_error_is_local(int error) {
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM || error == EADDRNOTAVAIL ||
           error == EAGAIN || error == EACCES || error == EPERM || error == ENOSPC;
}

static int give_up(struct conn *c, int error) {
    conn_close(c);
    return error;
}

int conn_open(struct conn *c, struct loop *loop, const struct sockaddr *address, socklen_t address_len) {
    int one = 1;
    c->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) return errno;
    c->used = c->wants_out = false;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    bool connected = connect(c->fd, address, address_len) == 0;
    /* Of a Unix socket EAGAIN says that the target's queue is full, not that something is short here. */
    if (!connected && errno == EAGAIN && address->sa_family == AF_UNIX) errno = ECONNREFUSED;
    if (!connected && errno != EINPROGRESS) return give_up(c, errno);
    c->wants_out = !connected;
    c->state = connected ? CONN_IDLE : CONN_CONNECTING;
    if (loop_add(loop, c->fd, EPOLLIN | (c->wants_out ? EPOLLOUT : 0), c) < 0) return give_up(c, errno);
    return 0;
}

static void want_out(struct conn *c, struct loop *loop, bool wanted) {
    if (c->wants_out == wanted) return;
    c->wants_out = wanted;
    loop_modify(loop, c->fd, EPOLLIN | (wanted ? EPOLLOUT : 0), c);
}

int conn_opened(struct conn *c, struct loop *loop) {
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0) error = errno;
    if (error) return give_up(c, error);
    want_out(c, loop, false);
    c->state = CONN_IDLE;
    return 0;
}

/* Write what can be written; return the bytes taken, or -1 with errno. */
static ssize_t write_some(struct conn *c, const char *data, size_t len) {
    ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (n > 0) c->request.bytes_written += (uint64_t)n;
    return n;
}

int conn_send(struct conn *c, struct loop *loop, const char *data, size_t len) {
    c->used = true;
    ssize_t n = write_some(c, data, len);
    if (n < 0) return errno;
    if ((size_t)n < len) {
        buffer_append(&c->out, data + n, len - (size_t)n);
        want_out(c, loop, true);
    }
    return 0;
}

int conn_flush(struct conn *c, struct loop *loop) {
    ssize_t n = write_some(c, c->out.data + c->out_done, c->out.len - c->out_done);
    if (n < 0) return errno;
    c->out_done += (size_t)n;
    if (c->out_done < c->out.len) return 0;
    buffer_reset(&c->out, OUT_CAPACITY);
    c->out_done = 0;
    want_out(c, loop, false);
    return 0;
}

enum received conn_receive(struct conn *c, char *scratch, size_t size, bool *reusable) {
    for (;;) {
        ssize_t n = recv(c->fd, scratch, size, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return RECEIVED_MORE;
        *reusable = false;
        if (n <= 0) return n == 0 && http_reader_ends_at_close(&c->reader) ? RECEIVED_RESPONSE : RECEIVED_CLOSED;
        c->request.bytes_read += (uint64_t)n;
        ssize_t used = http_reader_feed(&c->reader, scratch, (size_t)n);
        if (used == HTTP_BAD) return RECEIVED_BAD;
        if (used >= 0) {
            /* Bytes after the response, or a response before the request was out: nothing more can be trusted. */
            *reusable = used == n && !c->reader.head.close && c->out.len == 0;
            return RECEIVED_RESPONSE;
        }
        if ((size_t)n < size) return RECEIVED_MORE;
    }
}

void conn_close(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->state = CONN_CLOSED;
    buffer_reset(&c->out, 0);
    c->out_done = 0;
}

void conn_free(struct conn *c) {
    conn_close(c);
    buffer_free(&c->out);
    http_reader_free(&c->reader);
}
