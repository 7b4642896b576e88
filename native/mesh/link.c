/* Kept connections to replicas: one request at a time, sent and answered. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/service.h"

static void link_ready(struct stream *stream, uint32_t events);

static void link_leave(struct link *l) {
    if (l->previous) l->previous->next = l->next;
    else l->replica->links = l->next;
    if (l->next) l->next->previous = l->previous;
    l->previous = l->next = NULL;
}

static void link_enter(struct link *l) {
    l->next = l->replica->links;
    if (l->next) l->next->previous = l;
    l->replica->links = l;
}

void link_close(struct link *l) {
    if (!l->call) link_leave(l);
    stream_close(&l->stream);
    http_reader_free(&l->reader);
    service_bury(l->replica->peer->service, l);
}

static int link_send(struct link *l) { return stream_send(&l->stream, l->call->request.data, l->call->request.len); }

/* Return NULL, or why there is no connection. */
static const char *link_open(struct call *call) {
    struct replica *replica = call->replica;
    struct service *s = replica->peer->service;
    struct sockaddr_storage address;
    socklen_t len;
    if (!address_get(replica->address, &address, &len)) return "its name is not known (yet)";
    struct link *l = must_alloc(1, sizeof *l);
    int error = stream_connect(&l->stream, &s->loop, (struct sockaddr *)&address, len, link_ready);
    if (error) {
        free(l);
        return strerror(error);
    }
    l->replica = replica;
    l->call = call;
    l->connecting = true;
    call->link = l;
    http_reader_start(&l->reader, false, false);
    return NULL;
}

/* The response has come whole: the link is idle again, or at its end. */
static void response_came(struct link *l, bool reusable) {
    struct call *call = l->call;
    int status = l->reader.head.status;
    l->call = NULL;
    l->served = true;
    call->link = NULL;
    link_enter(l);
    if (!reusable) link_close(l);
    call_attempt_ended(call, NULL, status);
}

/* The connection is of no more use. Where it had served before and not a byte has come, the server may just have closed
 * it: the request goes out again on a new one. */
static void link_failed(struct link *l, const char *why) {
    struct call *call = l->call;
    bool stale = call && l->served && !l->reader.started && call->step->idempotent;
    link_close(l);
    if (!call) return;
    call->link = NULL;
    if (stale) {
        const char *failure = link_open(call);
        if (failure) call_attempt_ended(call, failure, 0);
        return;
    }
    call_attempt_ended(call, why, 0);
}

static void link_read(struct link *l) {
    struct service *s = l->replica->peer->service;
    for (;;) {
        ssize_t n = recv(l->stream.fd, s->scratch, sizeof s->scratch, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) {
            link_failed(l, strerror(errno));
            return;
        }
        if (!l->call || n == 0) { /* an idle server closes, or says what nobody asked for */
            bool whole = l->call && http_reader_ends_at_close(&l->reader);
            if (whole) response_came(l, false);
            else link_failed(l, "the connection was closed");
            return;
        }
        ssize_t used = http_reader_feed(&l->reader, s->scratch, (size_t)n);
        if (used == HTTP_BAD) {
            link_failed(l, "a malformed response");
            return;
        }
        if (used >= 0) {
            response_came(l, used == n && !l->reader.head.close && stream_flushed(&l->stream));
            return;
        }
        if ((size_t)n < sizeof s->scratch) return;
    }
}

static void link_ready(struct stream *stream, uint32_t events) {
    struct link *l = (struct link *)stream;
    if (l->connecting && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
        int error = stream_connected(stream);
        l->connecting = false;
        if (error) address_doubt(l->replica->address);
        if (!error) error = link_send(l);
        if (error) {
            link_failed(l, strerror(error));
            return;
        }
    } else if (events & EPOLLOUT && !stream_flushed(stream)) {
        int error = stream_flush(stream);
        if (error) {
            link_failed(l, strerror(error));
            return;
        }
    }
    if (events & (EPOLLIN | EPOLLERR)) link_read(l);
    /* A read that fell short of the buffer took all there was, but for the end. */
    if (events & (EPOLLRDHUP | EPOLLHUP) && stream->fd >= 0) link_read(l);
}

const char *link_request(struct call *call) {
    struct link *l = call->replica->links;
    if (!l) return link_open(call);
    link_leave(l);
    l->call = call;
    call->link = l;
    http_reader_start(&l->reader, false, false);
    int error = link_send(l);
    if (!error) return NULL;
    call->link = NULL;
    link_close(l);
    return link_open(call);
}
