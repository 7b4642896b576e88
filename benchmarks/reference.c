/* A server whose times are known and a client that is as simple as one can be, to hold the load generator against.
 *
 *   reference serve PORT [spin] [constant MS | mixture | exponential MS SEED] [stall FROM_S LENGTH_S] [log FILE]
 *   reference ask PORT COUNT
 *
 * The server answers each request so long after it arrived; `spin`: it never sleeps, and so adds nothing. A stall begins
 * FROM_S after the first request, and what falls in it is answered at its end. SIGTERM ends it: it writes when requests
 * arrived (CLOCK_MONOTONIC, ns, 64 bits each) to the log, and how many there were to standard output.
 * The client sends one request, waits for its answer, sleeps 1 ms; it prints the median latency in us.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 65536
#define ARRIVALS ((size_t)1 << 24)
static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

struct due { uint64_t time; int fd; };

static volatile sig_atomic_t ended;
static struct due heap[CONNECTIONS];
static size_t waiting, arrived;
static uint64_t *arrivals, stall_from = UINT64_MAX, stall_length, seed;
static int matched[CONNECTIONS]; /* bytes of the blank line after a request's head */
static enum { AT_ONCE, CONSTANT, MIXTURE, EXPONENTIAL } kind;
static double mean_ms;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void end(int number) { ended = number; }

static double unit(void) { /* splitmix64, in (0, 1) */
    uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) * 0x1p-53;
}

/* 90 % 2 ms, 9 % 20 ms, 1 % 200 ms, in an order that repeats after 100. */
static double mixture_ms(size_t i) { return i * 37 % 100 == 0 ? 200 : i * 37 % 100 < 10 ? 20 : 2; }

static uint64_t delay_ns(void) {
    double ms = kind == CONSTANT ? mean_ms : kind == MIXTURE ? mixture_ms(arrived)
              : kind == EXPONENTIAL ? -log(unit()) * mean_ms : 0;
    return (uint64_t)(ms * 1e6);
}

static void push(struct due one) {
    size_t at = waiting++;
    for (; at && heap[(at - 1) / 2].time > one.time; at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
    heap[at] = one;
}

static struct due pop(void) {
    struct due top = heap[0], last = heap[--waiting];
    size_t at = 0;
    for (size_t child = 1; child < waiting; child = 2 * at + 1) {
        if (child + 1 < waiting && heap[child + 1].time < heap[child].time) child++;
        if (heap[child].time >= last.time) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

static void reply(int fd) {
    if (send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL) < 0) matched[fd] = 0;
}

static void take_request(int fd, uint64_t now) {
    uint64_t delay = delay_ns(), time = now + delay;
    if (arrived < ARRIVALS) arrivals[arrived] = now;
    arrived++;
    uint64_t from = arrivals[0] + stall_from;
    if (stall_from != UINT64_MAX && time >= from && time < from + stall_length) time = from + stall_length;
    if (time <= now) reply(fd);
    else push((struct due){time, fd});
}

static void receive(int fd) {
    static const char blank[] = "\r\n\r\n";
    char buffer[65536];
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    uint64_t now = now_ns();
    if (n <= 0) {
        close(fd);
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        matched[fd] = buffer[i] == blank[matched[fd]] ? matched[fd] + 1 : buffer[i] == '\r';
        if (matched[fd] < 4) continue;
        matched[fd] = 0;
        take_request(fd, now);
    }
}

static void welcome(int listener, int epoll) {
    int one = 1, fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        matched[fd] = 0;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

static struct sockaddr_in address_of(const char *port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)),
                                .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

static int fail(const char *what) {
    perror(what);
    return 1;
}

static int serve(const char *port, int spin, const char *log) {
    struct sockaddr_in address = address_of(port);
    struct epoll_event events[256], event = {.events = EPOLLIN};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
    event.data.fd = listener;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) return fail(port);
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    while (!ended) {
        uint64_t now = now_ns();
        while (waiting && heap[0].time <= now) reply(pop().fd);
        uint64_t left = waiting ? heap[0].time - now : 100000000;
        struct timespec sleep = {.tv_sec = spin ? 0 : (time_t)(left / 1000000000), .tv_nsec = spin ? 0 : (long)(left % 1000000000)};
        int n = epoll_pwait2(epoll, events, 256, &sleep, NULL);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener) welcome(listener, epoll);
            else receive(events[i].data.fd);
        }
    }
    FILE *to = log ? fopen(log, "wb") : NULL;
    if (to) {
        fwrite(arrivals, sizeof *arrivals, arrived < ARRIVALS ? arrived : ARRIVALS, to);
        fclose(to);
    }
    printf("%zu\n", arrived);
    return 0;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int ask(const char *port, size_t count) {
    struct sockaddr_in address = address_of(port);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    char buffer[4096];
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) return fail(port);
    for (size_t i = 0; i < count; i++) {
        struct timespec pause = {.tv_nsec = 1000000};
        nanosleep(&pause, NULL);
        uint64_t begin = now_ns();
        if (send(fd, request, sizeof request - 1, 0) < 0 || recv(fd, buffer, sizeof buffer, 0) <= 0) return fail("ask");
        arrivals[i] = now_ns() - begin;
    }
    qsort(arrivals, count, sizeof *arrivals, by_value);
    printf("%.3f\n", (double)arrivals[count / 2] / 1e3);
    return 0;
}

int main(int argc, char **argv) {
    int spin = 0;
    const char *log = NULL;
    struct rlimit files;
    arrivals = malloc(ARRIVALS * sizeof *arrivals);
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    prctl(PR_SET_PDEATHSIG, (unsigned long)SIGTERM, 0UL, 0UL, 0UL);
    signal(SIGTERM, end);
    if (!arrivals || argc < 3 || getrlimit(RLIMIT_NOFILE, &files)) return 2;
    files.rlim_cur = files.rlim_max < CONNECTIONS ? files.rlim_max : CONNECTIONS;
    setrlimit(RLIMIT_NOFILE, &files);
    if (strcmp(argv[1], "ask") == 0 && argc > 3) return ask(argv[2], (size_t)atol(argv[3]));
    for (char **word = argv + 3; *word; word++) {
        if (strcmp(*word, "spin") == 0) spin = 1;
        else if (strcmp(*word, "mixture") == 0) kind = MIXTURE;
        else if (strcmp(*word, "log") == 0 && word[1]) log = *++word;
        else if (strcmp(*word, "constant") == 0 && word[1]) kind = CONSTANT, mean_ms = atof(*++word);
        else if (strcmp(*word, "exponential") == 0 && word[1] && word[2]) {
            kind = EXPONENTIAL, mean_ms = atof(*++word), seed = strtoull(*++word, NULL, 10);
        } else if (strcmp(*word, "stall") == 0 && word[1] && word[2]) {
            stall_from = (uint64_t)(atof(*++word) * 1e9), stall_length = (uint64_t)(atof(*++word) * 1e9);
        } else return 2;
    }
    return serve(argv[2], spin, log);
}
