/* One client connection: non-blocking connect, with TLS or without, send and receive of one request at a time, or of
 * several that were sent together. No policy, no Lua. */
#ifndef AEFM_CONN_H
#define AEFM_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "http_reader.h"
#include "http_request.h"
#include "loop.h"
#include "tls.h"

enum conn_state { CONN_CLOSED, CONN_CONNECTING, CONN_IDLE, CONN_BUSY };

/* The request whose response a busy connection awaits. */
struct request {
    uint64_t intended_ns;
    uint64_t sent_ns;
    uint64_t bytes_read, bytes_written;
    uint32_t tag;
    bool in_window;
    bool waited; /* for a connection */
};

/* A request that was sent behind it. */
struct follower {
    uint32_t tag;
    bool to_head;
};

struct conn {
    struct conn *previous, *next; /* a connection is on at most one list */
    uint64_t when_ns;             /* what its list is ordered by: a deadline */
    int fd;
    enum conn_state state;
    bool failed;    /* its latest attempt gave no usable connection */
    bool used;      /* a request was sent since it was opened */
    bool wants_out; /* EPOLLOUT is asked for */
    uint64_t opened_ns;
    uint64_t idle_since_ns;
    struct request request;
    struct follower *followers; /* in order; those from follower_at on are still to be answered */
    size_t follower_at, follower_count, follower_room;
    struct http_reader reader;
    struct buffer out; /* what the socket did not take at once */
    size_t out_done;
    const char *unread; /* of what was received, for the next response */
    size_t unread_len;
    struct tls *tls; /* NULL: none */
    bool connected;  /* but for the handshake */
};

struct conn_list {
    struct conn *head, *tail;
    uint32_t count;
};

void conn_list_append(struct conn_list *list, struct conn *c);
void conn_list_remove(struct conn_list *list, struct conn *c);

/* Start to connect. Return 0 with c->state CONNECTING or IDLE, or an errno with the connection closed. */
int conn_open(struct conn *c, struct loop *loop, const struct sockaddr *address, socklen_t address_len);

/* Go on connecting when the socket is ready: 0 with c->state IDLE, or still CONNECTING while hands are shaken; or an
 * errno with the connection closed. */
int conn_advance(struct conn *c, struct loop *loop);

/* Say what an errno of these means, which may be that the handshake failed. */
const char *conn_failure(const struct conn *c, int error);

/* Send; what the socket does not take now is copied and goes out with conn_flush(). Return 0 or an errno. */
int conn_send(struct conn *c, struct loop *loop, const char *data, size_t len);
int conn_flush(struct conn *c, struct loop *loop);

/* Note that a request was sent behind the others; then, when a response has come, await the next one: false where all
 * have been answered. Bytes are counted anew, what they have in common stays. */
void conn_follow(struct conn *c, uint32_t tag, bool to_head);
bool conn_await_next(struct conn *c, bool keep);

enum received { RECEIVED_MORE, RECEIVED_RESPONSE, RECEIVED_BAD, RECEIVED_CLOSED };

/* Read what is there into `scratch` and through c->reader, up to the end of one response. *reusable tells whether
 * another one, or another request, may follow. While c->unread_len is not 0, `scratch` is not to be touched. */
enum received conn_receive(struct conn *c, char *scratch, size_t size, bool *reusable);

/* Look at what came where nothing was asked for. Return false where it was the connection's end, or anything else. */
bool conn_is_quiet(struct conn *c, char *scratch, size_t size);

void conn_close(struct conn *c);
void conn_free(struct conn *c);

/* Tell errors of this machine (descriptors, ports, memory, permissions) from those of the target. */
bool conn_error_is_local(int error);

#endif
