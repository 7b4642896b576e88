/* A non-blocking socket in an edge-triggered epoll set: registered once, so that a request costs no epoll_ctl.
 * Whoever reads until less came than was asked for may wait for the next event. */
#ifndef AEFM_MESH_STREAM_H
#define AEFM_MESH_STREAM_H

#include <stdbool.h>
#include <sys/socket.h>

#include "buffer.h"
#include "loop.h"

/* First member of whatever owns a descriptor in the loop; events come back with its address. */
struct stream {
    int fd; /* -1: closed */
    void (*ready)(struct stream *stream, uint32_t events);
    struct buffer out; /* what the socket did not take at once */
    size_t out_done;
};

/* Watch `fd` (which `stream` owns from now on, whatever is returned). Return 0, or -1 with errno. */
int stream_open(struct stream *stream, struct loop *loop, int fd, void (*ready)(struct stream *, uint32_t));

/* A new socket that connects to `address`, in the same way. Return 0 or an errno, with the stream closed. */
int stream_connect(struct stream *stream, struct loop *loop, const struct sockaddr *address, socklen_t len,
                   void (*ready)(struct stream *, uint32_t));

/* The outcome of stream_connect(), once the stream is writable: 0 or an errno. */
int stream_connected(const struct stream *stream);

/* Send; what the socket does not take now is copied and goes out with stream_flush(). Return 0 or an errno. */
int stream_send(struct stream *stream, const void *data, size_t len);
int stream_flush(struct stream *stream);
bool stream_flushed(const struct stream *stream);

void stream_close(struct stream *stream);

#endif
