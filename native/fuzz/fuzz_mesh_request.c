/* Any bytes from a client: a service takes them in two pieces, answers or refuses, and has nothing in flight after. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "mesh/service.h"

static const char CONFIG[] =
    "{\"app\":\"a\",\"service\":\"s\",\"host\":\"127.0.0.1\",\"port\":0,\"iterations_per_us\":1,\"peers\":{},"
    "\"otlp_endpoint\":\"http://127.0.0.1:9/v1/traces\",\"sample_ratio\":1,\"seed\":1,\"labels\":{},\"faults\":true,"
    "\"span_queue\":4,\"endpoints\":["
    "{\"method\":\"GET\",\"path\":\"/x\",\"parameters\":[\"p\"],\"response_bytes\":9,\"steps\":[]},"
    "{\"method\":\"GET\",\"path\":\"/h/{id}\",\"parameters\":[],\"response_bytes\":9,\"steps\":["
    "{\"cache\":{\"name\":\"c\",\"capacity\":3,\"key\":\"id\",\"miss\":[]}}]},"
    "{\"method\":\"POST\",\"path\":\"/x\",\"parameters\":[],\"response_bytes\":0,\"steps\":[]}]}";

static struct service *start(void) {
    static struct config config;
    char message[512];
    struct service *s = must_alloc(1, sizeof *s);
    if (config_read(CONFIG, sizeof CONFIG - 1, &config, message, sizeof message) < 0) abort();
    s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (service_open(s, &config.services[0], resolver_new()) < 0) abort();
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct service *s;
    int ends[2];
    size_t half = size / 2;
    if (!s) s = start();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) abort();
    connection_accept(s, ends[0]);
    if (send(ends[1], data, half, MSG_NOSIGNAL) < 0) half = 0;
    service_turn(s, 0);
    if (send(ends[1], data + half, size - half, MSG_NOSIGNAL) >= 0) shutdown(ends[1], SHUT_WR);
    service_turn(s, 0);
    close(ends[1]);
    for (int turns = 0; s->connections && turns < 100; turns++) service_turn(s, 0);
    if (s->connections) abort();
    s->faults.delay_ms = s->faults.fail_rate = 0;
    s->faults.stall = false;
    exchange_admit(s);
    return 0;
}
