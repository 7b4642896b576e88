/* Peers: their replicas and whose turn it is, and the circuit breaker. */
#include "mesh/service.h"

bool breaker_refuses(struct peer *p, struct call *call) {
    if (!p->open_until_ns) return false;
    if (p->trying || now_ns() < p->open_until_ns) return true;
    p->trying = call->trial = true;
    return false;
}

void breaker_hears(struct peer *p, struct call *call, bool failed) {
    if (call->trial) p->trying = call->trial = false;
    p->failures_in_row = failed ? p->failures_in_row + 1 : 0;
    if (!failed) p->open_until_ns = 0;
    else if (p->config->breaker_failures && p->failures_in_row >= p->config->breaker_failures) {
        p->open_until_ns = now_ns() + p->config->breaker_open_ns;
    }
}

struct replica *replica_choose(struct peer *p) {
    uint32_t count = p->config->url_count, first = p->turn++ % count;
    struct replica *best = &p->replicas[first];
    if (p->config->balance == BALANCE_ROUND_ROBIN) return best;
    for (uint32_t i = 1; i < count; i++) { /* among equals, take turns */
        struct replica *other = &p->replicas[(first + i) % count];
        if (other->outstanding < best->outstanding) best = other;
    }
    return best;
}

void peers_open(struct service *s, struct resolver *resolver) {
    s->peers = must_alloc(s->config->peer_count, sizeof *s->peers);
    for (uint32_t i = 0; i < s->config->peer_count; i++) {
        struct peer *p = &s->peers[i];
        p->service = s;
        p->config = &s->config->peers[i];
        p->replicas = must_alloc(p->config->url_count, sizeof *p->replicas);
        for (uint32_t k = 0; k < p->config->url_count; k++) {
            const struct url *url = &p->config->urls[k];
            p->replicas[k] = (struct replica){.peer = p, .url = url,
                                              .address = resolver_add(resolver, url->host, url->port)};
        }
    }
}

const char *peers_unknown(struct service *s) {
    struct sockaddr_storage address;
    socklen_t len;
    for (uint32_t i = 0; i < s->config->peer_count; i++) {
        for (uint32_t k = 0; k < s->peers[i].config->url_count; k++) {
            if (!address_get(s->peers[i].replicas[k].address, &address, &len)) return s->peers[i].config->name;
        }
    }
    return NULL;
}
