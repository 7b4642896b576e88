#include "conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OUT_CAPACITY 4096u
#define FIRST_FOLLOWERS 8u

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
    c->connected = false;
    c->state = CONN_CONNECTING;
    if (loop_add(loop, c->fd, EPOLLIN | (c->wants_out ? EPOLLOUT : 0), c) < 0) return give_up(c, errno);
    return connected ? conn_advance(c, loop) : 0;
}

static void want_out(struct conn *c, struct loop *loop, bool wanted) {
    if (c->wants_out == wanted) return;
    c->wants_out = wanted;
    loop_modify(loop, c->fd, EPOLLIN | (wanted ? EPOLLOUT : 0), c);
}

int conn_advance(struct conn *c, struct loop *loop) {
    int error = 0;
    socklen_t len = sizeof error;
    if (!c->connected) {
        if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0) error = errno;
        if (!error && c->tls && !tls_begin(c->tls, c->fd)) error = ENOMEM;
        if (error) return give_up(c, error);
        c->connected = true;
    }
    enum tls_step step = c->tls ? tls_handshake(c->tls) : TLS_DONE;
    if (step == TLS_FAILED) return give_up(c, EPROTO);
    want_out(c, loop, step == TLS_WANTS_WRITE);
    if (step == TLS_DONE) c->state = CONN_IDLE;
    return 0;
}

const char *conn_failure(const struct conn *c, int error) {
    return error == EPROTO && c->tls ? tls_failure(c->tls) : strerror(error);
}

static ssize_t read_some(struct conn *c, char *data, size_t size) {
    ssize_t n;
    if (c->tls) return tls_read(c->tls, data, size);
    do n = recv(c->fd, data, size, 0);
    while (n < 0 && errno == EINTR);
    return n;
}

/* Write what can be written; return the bytes taken, or -1 with errno. */
static ssize_t write_some(struct conn *c, const char *data, size_t len) {
    ssize_t n = c->tls ? tls_write(c->tls, data, len) : send(c->fd, data, len, MSG_NOSIGNAL);
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

void conn_follow(struct conn *c, uint32_t tag, bool to_head) {
    if (c->follower_count == c->follower_room) {
        c->follower_room = c->follower_room ? c->follower_room * 2 : FIRST_FOLLOWERS;
        c->followers = must_realloc(c->followers, c->follower_room, sizeof *c->followers);
    }
    c->followers[c->follower_count++] = (struct follower){tag, to_head};
}

static bool is_followed(const struct conn *c) { return c->follower_at < c->follower_count; }

bool conn_await_next(struct conn *c, bool keep) {
    if (!is_followed(c)) {
        c->follower_at = c->follower_count = 0;
        return false;
    }
    const struct follower *next = &c->followers[c->follower_at++];
    c->request.tag = next->tag;
    c->request.bytes_read = c->request.bytes_written = 0;
    http_reader_start(&c->reader, next->to_head, keep);
    return true;
}

/* Feed what is there to the reader. Bytes after the last response, or a response before the request was out: nothing
 * more can be trusted. */
static enum received feed(struct conn *c, bool *reusable) {
    ssize_t used = http_reader_feed(&c->reader, c->unread, c->unread_len);
    size_t taken = used < 0 ? c->unread_len : (size_t)used;
    c->request.bytes_read += taken;
    c->unread += taken;
    c->unread_len -= taken;
    if (used < 0) return used == HTTP_BAD ? RECEIVED_BAD : RECEIVED_MORE;
    *reusable = !c->reader.head.close && (is_followed(c) || (c->unread_len == 0 && c->out.len == 0));
    return RECEIVED_RESPONSE;
}

enum received conn_receive(struct conn *c, char *scratch, size_t size, bool *reusable) {
    size_t most = c->tls ? TLS_RECORD_MAX : size; /* a read that gave less took all there was */
    ssize_t n = (ssize_t)most;
    *reusable = false;
    for (;;) {
        if (c->unread_len) {
            enum received got = feed(c, reusable);
            if (got != RECEIVED_MORE || (size_t)n < most) return got;
        }
        n = read_some(c, scratch, size);
        if (n < 0 && errno == EAGAIN) return RECEIVED_MORE;
        if (n <= 0) return n == 0 && http_reader_ends_at_close(&c->reader) ? RECEIVED_RESPONSE : RECEIVED_CLOSED;
        c->unread = scratch;
        c->unread_len = (size_t)n;
    }
}

bool conn_is_quiet(struct conn *c, char *scratch, size_t size) {
    return read_some(c, scratch, size) < 0 && (errno == EAGAIN || errno == EINTR);
}

void conn_close(struct conn *c) {
    if (c->tls) tls_end(c->tls);
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->state = CONN_CLOSED;
    c->follower_at = c->follower_count = 0;
    c->unread_len = 0;
    buffer_reset(&c->out, 0);
    c->out_done = 0;
}

void conn_free(struct conn *c) {
    conn_close(c);
    tls_free(c->tls);
    free(c->followers);
    buffer_free(&c->out);
    http_reader_free(&c->reader);
}
