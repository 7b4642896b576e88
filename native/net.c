#include "net.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

int net_probe(const struct sockaddr *address, socklen_t len, int timeout_ms) {
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), error = 0;
    if (fd < 0) return errno;
    if (connect(fd, address, len) < 0) error = errno;
    if (error == EINPROGRESS) {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        socklen_t size = sizeof error;
        int ready = poll(&wait, 1, timeout_ms);
        if (ready <= 0) error = ready == 0 ? ETIMEDOUT : errno;
        else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) error = errno;
    }
    close(fd);
    return error;
}

const char *net_resolve(const char *host, const char *port, int timeout_ms, struct sockaddr_storage *address,
                        socklen_t *len) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP}, *all = NULL;
    int wrong = getaddrinfo(host, port, &hints, &all), error = 0;
    if (wrong) return wrong == EAI_SYSTEM ? strerror(errno) : gai_strerror(wrong);
    struct addrinfo *chosen = all;
    if (all->ai_next) {
        for (; chosen; chosen = chosen->ai_next) {
            error = net_probe(chosen->ai_addr, chosen->ai_addrlen, timeout_ms);
            if (error == 0) break;
        }
    }
    if (chosen) {
        memcpy(address, chosen->ai_addr, chosen->ai_addrlen);
        *len = chosen->ai_addrlen;
    }
    freeaddrinfo(all);
    return chosen ? NULL : strerror(error);
}
