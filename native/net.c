#include "net.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "buffer.h"

#define UNIX_PATH_AT offsetof(struct sockaddr_un, sun_path)

int net_probe(const struct address *address, int timeout_ms) {
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), error = 0;
    if (fd < 0) return errno;
    if (connect(fd, (const struct sockaddr *)&address->storage, address->len) < 0) error = errno;
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

static void append(struct addresses *to, const struct address *address) {
    to->at = must_realloc(to->at, to->count + 1, sizeof *to->at);
    to->at[to->count++] = *address;
}

const char *net_resolve(const char *host, const char *port, int timeout_ms, bool all, struct addresses *to) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP}, *found = NULL;
    int wrong = getaddrinfo(host, port, &hints, &found), error = 0;
    size_t before = to->count;
    if (wrong) return wrong == EAI_SYSTEM ? strerror(errno) : gai_strerror(wrong);
    for (const struct addrinfo *one = found; one && (all || to->count == before); one = one->ai_next) {
        struct address address = {.len = one->ai_addrlen};
        memcpy(&address.storage, one->ai_addr, one->ai_addrlen);
        int failed = found->ai_next ? net_probe(&address, timeout_ms) : 0;
        if (failed) error = failed;
        else append(to, &address);
    }
    freeaddrinfo(found);
    return to->count > before ? NULL : strerror(error);
}

bool net_append_unix(const char *path, struct addresses *to) {
    struct address address = {0};
    struct sockaddr_un *un = (struct sockaddr_un *)&address.storage;
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof un->sun_path) return false;
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, len);
    if (*path == '@') un->sun_path[0] = '\0';
    address.len = (socklen_t)(UNIX_PATH_AT + len + (*path != '@'));
    append(to, &address);
    return true;
}

static void put_unix(const struct address *address, char *text, size_t size) {
    const struct sockaddr_un *un = (const struct sockaddr_un *)&address->storage;
    bool abstract = un->sun_path[0] == '\0';
    int len = (int)(address->len - UNIX_PATH_AT) - 1; /* without the first byte, or without the last */
    snprintf(text, size, "unix:%s%.*s", abstract ? "@" : "", len, un->sun_path + abstract);
}

const char *net_address_text(const struct address *address, char *text, size_t size) {
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (address->storage.ss_family == AF_UNIX) {
        put_unix(address, text, size);
        return NULL;
    }
    int wrong = getnameinfo((const struct sockaddr *)&address->storage, address->len, host, sizeof host, port,
                            sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    if (wrong) return gai_strerror(wrong);
    snprintf(text, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    return NULL;
}
