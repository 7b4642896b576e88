/* HTTP/1.1 with clients: requests one after the other, in whatever pieces they come. Slow, broken and vanished clients
 * cost their connection, never the service. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mesh/service.h"

#define REQUEST_NS (30 * NS_PER_S) /* for one to arrive whole, and for its answer to be taken */
#define IDLE_NS (600 * NS_PER_S)
#define CONTENT_MAX 65536u
#define IN_KEPT 1024u
#define ERROR_HEAD_MAX 256

static void connection_read(struct connection *c);
static void connection_ready(struct stream *stream, uint32_t events);

static void enlist(struct service *s, struct connection *c) {
    c->next = s->connections;
    if (c->next) c->next->previous = c;
    s->connections = c;
    s->connection_count++;
}

static void delist(struct service *s, struct connection *c) {
    if (c->previous) c->previous->next = c->next;
    else s->connections = c->next;
    if (c->next) c->next->previous = c->previous;
    s->connection_count--;
}

void connection_accept(struct service *s, int fd) {
    int one = 1;
    struct connection *c = must_alloc(1, sizeof *c);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->service = s;
    c->since_ns = now_ns();
    enlist(s, c);
    if (stream_open(&c->stream, &s->loop, fd, connection_ready) < 0) connection_close(c);
}

void connection_close(struct connection *c) {
    if (c->stream.fd < 0) return;
    struct exchange *e = c->exchange;
    delist(c->service, c);
    stream_close(&c->stream);
    buffer_free(&c->in);
    buffer_free(&c->kept_content);
    if (e && c->in_body) free(e); /* not begun; one that was goes on without its client */
    else if (e) e->connection = NULL;
    c->exchange = NULL;
    service_bury(c->service, c);
}

/* ---- receiving */

static void keep_content(void *arg, const char *data, size_t len) {
    struct connection *c = arg;
    if (c->kept_content.len + len <= CONTENT_MAX) buffer_append(&c->kept_content, data, len);
}

/* Refuse what is no request, and hear no more. */
static void refuse(struct connection *c, const char *status) {
    char text[ERROR_HEAD_MAX];
    snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status);
    c->closing = true;
    if (stream_send(&c->stream, text, strlen(text)) != 0) connection_close(c);
    else if (stream_flushed(&c->stream)) shutdown(c->stream.fd, SHUT_WR); /* closed by the client, or by the sweep */
}

static void complete(struct connection *c) {
    struct exchange *e = c->exchange;
    c->in_body = false;
    if (control_is_path(e->path)) control_serve(e, c->content ? &c->kept_content : NULL);
    else exchange_begin(e);
}

static bool expects_continue(const char *data, size_t len, const struct http_head *head) {
    struct http_text name, value;
    size_t at = head->fields_at;
    while (http_next_field(data, len, &at, &name, &value)) {
        if (http_text_is(name, "expect") && http_text_is(value, "100-continue")) return true;
    }
    return false;
}

/* A head has come: prepare for its body, which may be none. */
static void take_head(struct connection *c, const char *data, size_t len, const struct http_head *head) {
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    c->exchange = exchange_new(c, data, len, head);
    bool has_body = head->chunked || head->length > 0;
    c->body = (struct http_body){.framing = !has_body ? HTTP_NO_BODY : head->chunked ? HTTP_CHUNKED : HTTP_LENGTH,
                                 .left = head->length};
    c->in_body = true;
    c->content = has_body && control_is_path(c->exchange->path) ? &c->kept_content : NULL;
    c->kept_content.len = 0;
    if (has_body && expects_continue(data, len, head)) stream_send(&c->stream, go_on, sizeof go_on - 1);
}

/* Take a part of a request from `data`; return the bytes taken, HTTP_MORE or HTTP_BAD. */
static ssize_t take_part(struct connection *c, const char *data, size_t len) {
    struct http_head head;
    ssize_t n;
    if (c->in_body) {
        n = http_body_feed(&c->body, data, len, c->content ? keep_content : NULL, c);
        if (n >= 0) complete(c);
        return n;
    }
    n = http_parse_request_head(data, len, c->seen, &head);
    c->seen = n == HTTP_MORE ? len : 0;
    if (n < 0) return n;
    if (head.coded && !head.chunked) return HTTP_BAD;
    take_head(c, data, (size_t)n, &head);
    if (c->body.framing == HTTP_NO_BODY) complete(c);
    return n;
}

/* Take requests from `data` while none is being served; return the bytes that were used up, or -1: closed. */
static ssize_t consume(struct connection *c, const char *data, size_t len) {
    size_t at = 0;
    c->consuming = true;
    while (at < len && !c->closing && (!c->exchange || c->in_body) && (c->in_body || stream_flushed(&c->stream))) {
        bool body = c->in_body;
        ssize_t n = take_part(c, data + at, len - at);
        if (c->stream.fd < 0) return -1;
        if (n == HTTP_MORE) {
            if (body) at = len;
            break;
        }
        if (n == HTTP_BAD) {
            refuse(c, len - at >= HTTP_HEAD_MAX ? "431 Request Header Fields Too Large" : "400 Bad Request");
            if (c->stream.fd < 0) return -1;
            break;
        }
        at += (size_t)n;
    }
    c->consuming = false;
    return (ssize_t)at;
}

/* Take what lies in c->in and, from the socket, in `fresh`; keep the rest. Return false when the connection is closed. */
static bool take(struct connection *c, const char *fresh, size_t len) {
    if (c->closing) return true; /* what follows a refused request is not looked at */
    if (c->in.len == 0) {
        ssize_t used = consume(c, fresh, len);
        if (used >= 0) buffer_append(&c->in, fresh + used, len - (size_t)used);
        return used >= 0;
    }
    buffer_append(&c->in, fresh, len);
    struct buffer all = c->in; /* serving may close the connection, and free its buffer */
    c->in = (struct buffer){0};
    ssize_t used = consume(c, all.data, all.len);
    if (used >= 0) {
        memmove(all.data, all.data + used, all.len - (size_t)used);
        all.len -= (size_t)used;
        if (all.len == 0) buffer_reset(&all, IN_KEPT);
        c->in = all;
    } else {
        buffer_free(&all);
    }
    return used >= 0;
}

static bool is_busy(const struct connection *c) {
    return (c->exchange && !c->in_body) || !stream_flushed(&c->stream);
}

static void connection_read(struct connection *c) {
    struct service *s = c->service;
    while (c->readable && !is_busy(c)) { /* a client that asks faster than it is answered waits */
        ssize_t n = recv(c->stream.fd, s->scratch, sizeof s->scratch, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) {
            connection_close(c);
            return;
        }
        if (n <= 0 || ((size_t)n < sizeof s->scratch && !c->hung_up)) c->readable = false;
        c->ended |= n == 0;
        if (n <= 0) break;
        if (!c->exchange && c->in.len == 0) c->since_ns = now_ns();
        if (!take(c, s->scratch, (size_t)n)) return;
    }
    if (c->ended && !is_busy(c)) connection_close(c); /* what was asked for has been answered */
}

/* A request was answered: see whether another one lies here. */
static void connection_next(struct connection *c) {
    c->since_ns = now_ns();
    if (c->closing) {
        if (stream_flushed(&c->stream)) connection_close(c);
        return;
    }
    if (c->consuming || is_busy(c)) return;
    if (c->in.len && !take(c, "", 0)) return;
    connection_read(c);
}

static void connection_ready(struct stream *stream, uint32_t events) {
    struct connection *c = (struct connection *)stream;
    if (events & EPOLLOUT && !stream_flushed(stream)) {
        if (stream_flush(stream) != 0) {
            connection_close(c);
            return;
        }
        if (stream_flushed(stream)) connection_next(c);
        if (stream->fd < 0) return;
    }
    if (events & EPOLLERR) {
        connection_close(c);
    } else if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) {
        c->readable = true;
        c->hung_up |= (events & (EPOLLRDHUP | EPOLLHUP)) != 0;
        connection_read(c);
    }
}

/* ---- answering */

static const char *reason(int status) {
    switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 429: return "Too Many Requests";
    case 500: return "Internal Server Error";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    default: return "Other";
    }
}

/* Send up to two parts, and let the connection go on. */
static void send_answer(struct exchange *e, const void *first, size_t first_len, const void *second, size_t second_len) {
    struct connection *c = e->connection;
    bool close = e->close;
    free(e);
    if (!c) return;
    c->exchange = NULL;
    c->closing = close;
    int error = stream_send(&c->stream, first, first_len);
    if (!error && second_len) error = stream_send(&c->stream, second, second_len);
    if (error) connection_close(c);
    else connection_next(c);
}

void connection_answer(struct exchange *e, int status, const char *content_type, const void *body, size_t len) {
    char head[ERROR_HEAD_MAX];
    int n = snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n", status,
                     reason(status), content_type, len, e->close ? "Connection: close\r\n" : "");
    send_answer(e, head, (size_t)n, body, e->to_head ? 0 : len);
}

void connection_answer_prepared(struct exchange *e, const struct buffer *answer, size_t head) {
    if (e->close || e->to_head) connection_answer(e, 200, "application/json", answer->data + head, answer->len - head);
    else send_answer(e, answer->data, answer->len, NULL, 0);
}

/* ---- time */

void connection_sweep(struct service *s) {
    uint64_t now = now_ns();
    for (struct connection *c = s->connections, *next; c; c = next) {
        next = c->next;
        bool served = c->exchange && !c->in_body;
        bool idle = !c->exchange && c->in.len == 0 && stream_flushed(&c->stream) && !c->closing;
        if (served || now - c->since_ns < (idle ? IDLE_NS : REQUEST_NS)) continue;
        if (!idle && !c->closing && stream_flushed(&c->stream)) {
            refuse(c, "408 Request Timeout");
            c->since_ns = now;
        } else {
            connection_close(c);
        }
    }
}
