/* One client connection: non-blocking connect, send and receive of one request at a time. No policy, no Lua. */
#ifndef AEFM_CONN_H
#define AEFM_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "http_reader.h"
#include "loop.h"

enum conn_state { CONN_CLOSED, CONN_CONNECTING, CONN_IDLE, CONN_BUSY };

/* The request that a busy connection carries. */
struct request {
    uint64_t intended_ns;
    uint64_t sent_ns;
    uint64_t bytes_read, bytes_written;
    uint32_t tag;
    bool in_window;
    bool waited; /* for a connection */
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
    struct http_reader reader;
    struct buffer out; /* what the socket did not take at once */
    size_t out_done;
};

struct conn_list {
    struct conn *head, *tail;
    uint32_t count;
};

void conn_list_append(struct conn_list *list, struct conn *c);
void conn_list_remove(struct conn_list *list, struct conn *c);

/* Start to connect. Return 0 with c->state CONNECTING or IDLE, or an errno with the connection closed. */
int conn_open(struct conn *c, struct loop *loop, const struct sockaddr *address, socklen_t address_len);

/* Conclude a connect that became writable: 0 with c->state IDLE, or an errno with the connection closed. */
int conn_opened(struct conn *c, struct loop *loop);

/* Send; what the socket does not take now is copied and goes out with conn_flush(). Return 0 or an errno. */
int conn_send(struct conn *c, struct loop *loop, const char *data, size_t len);
int conn_flush(struct conn *c, struct loop *loop);

enum received { RECEIVED_MORE, RECEIVED_RESPONSE, RECEIVED_BAD, RECEIVED_CLOSED };

/* Read what is there into `scratch` and through c->reader. *reusable tells whether another request may follow. */
enum received conn_receive(struct conn *c, char *scratch, size_t size, bool *reusable);

void conn_close(struct conn *c);
void conn_free(struct conn *c);

/* Tell errors of this machine (descriptors, ports, memory, permissions) from those of the target. */
bool conn_error_is_local(int error);

#endif
