#include "mesh/config.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "mesh/config_reader.h"

static void read_url(struct config_reader *r, const struct json_value *from, const char *key, struct url *url) {
    if (from->kind != JSON_STRING) {
        config_wrong(r, from, key, "expected a URL");
        return;
    }
    const char *wrong = url_parse(config_text(r, "%s", from->text), url);
    if (!wrong && url->secure) wrong = "expected http://host[:port]: https is not supported";
    if (wrong) config_wrong(r, from, key, "%s", wrong);
}

static void read_breaker(struct config_reader *r, const struct json_value *from, struct peer_config *peer) {
    peer->breaker_failures = (uint32_t)take_uint(r, from, "failures", 1, 1000000);
    peer->breaker_open_ns = (uint64_t)(take_number(r, from, "open_ms", 0, 86400e3) * 1e6);
    refuse_rest(r, from);
}

static void read_peer(struct config_reader *r, const struct json_value *from, struct peer_config *peer) {
    const struct json_value *urls = take_array(r, from, "urls");
    if (!urls) return;
    if (urls->count == 0) config_wrong(r, urls, "urls", "expected at least one URL");
    peer->name = config_text(r, "%s", from->name);
    peer->urls = config_alloc(r, urls->count + 1, sizeof *peer->urls);
    for (const struct json_value *url = urls->first; url; url = url->next) {
        read_url(r, url, "urls", &peer->urls[peer->url_count++]);
    }
    if (json_member(from, "balance")) {
        const char *balance = take_string(r, from, "balance");
        if (strcmp(balance, "least_connections") == 0) peer->balance = BALANCE_LEAST_CONNECTIONS;
        else if (strcmp(balance, "round_robin") != 0) {
            config_wrong(r, json_member(from, "balance"), "balance", "expected round_robin or least_connections");
        }
    }
    peer->retry_budget = take_number_or(r, from, "retry_budget", 0, 1e6, -1);
    if (json_member(from, "breaker")) read_breaker(r, take_object(r, from, "breaker"), peer);
    refuse_rest(r, from);
}

static void read_peers(struct config_reader *r, const struct json_value *from) {
    struct service_config *s = r->service;
    if (!from) return;
    s->peers = config_alloc(r, from->count + 1, sizeof *s->peers);
    for (const struct json_value *peer = from->first; peer; peer = peer->next) {
        s->peers[s->peer_count].index = s->peer_count;
        read_peer(r, peer, &s->peers[s->peer_count++]);
    }
}

static void read_endpoint(struct config_reader *r, const struct json_value *from, struct endpoint_config *endpoint) {
    endpoint->method = take_string(r, from, "method");
    endpoint->path = take_string(r, from, "path");
    endpoint->name = config_text(r, "%s %s", endpoint->method, endpoint->path);
    endpoint->pattern = strchr(endpoint->path, '{') != NULL;
    endpoint->response_bytes = take_uint(r, from, "response_bytes", 0, 16 << 20);
    const struct json_value *parameters = take_array(r, from, "parameters");
    if (!parameters) return;
    endpoint->parameters = config_alloc(r, parameters->count + 1, sizeof *endpoint->parameters);
    for (const struct json_value *name = parameters->first; name; name = name->next) {
        if (name->kind != JSON_STRING) config_wrong(r, name, "parameters", "expected names");
        else endpoint->parameters[endpoint->parameter_count++] = config_text(r, "%s", name->text);
    }
    read_steps(r, take_array(r, from, "steps"), &endpoint->steps);
    refuse_rest(r, from);
}

static void read_labels(struct config_reader *r, const struct json_value *from) {
    struct service_config *s = r->service;
    if (!from) return;
    s->labels = config_alloc(r, from->count + 1, sizeof *s->labels);
    for (const struct json_value *label = from->first; label; label = label->next) {
        if (label->kind != JSON_STRING) config_wrong(r, label, label->name, "expected a string");
        else s->labels[s->label_count++] = (struct label){config_text(r, "%s", label->name),
                                                          config_text(r, "%s", label->text)};
    }
}

/* Seeds may be larger than a double holds exactly: all their digits count. */
static uint64_t read_seed(struct config_reader *r, const struct json_value *from) {
    uint64_t seed = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    take_number(r, from, "seed", -1e300, 1e300);
    const struct json_value *value = json_member(from, "seed");
    for (const char *c = value && value->text ? value->text : ""; *c; c++) {
        seed = (seed ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    }
    return seed;
}

static void read_limits(struct config_reader *r, const struct json_value *from) {
    struct service_config *s = r->service;
    s->threads = (uint32_t)take_uint_or(r, from, "threads", 1, 256, 1);
    s->workers = (uint32_t)take_uint_or(r, from, "workers", 0, 1000000, 0);
    s->queue = (uint32_t)take_uint_or(r, from, "queue", 0, UINT32_MAX - 1, UINT32_MAX);
    s->faults = take_bool_or(r, from, "faults", false);
    s->span_queue = (uint32_t)take_uint_or(r, from, "span_queue", 2, 1 << 24, 32768);
    s->export_interval_ns = take_uint_or(r, from, "export_interval_ms", 0, 86400000, 0) * NS_PER_MS;
}

static void read_tracing(struct config_reader *r, const struct json_value *from) {
    struct service_config *s = r->service;
    const struct json_value *otlp = json_member(from, "otlp_endpoint");
    s->has_otlp = otlp && otlp->kind != JSON_NULL;
    if (s->has_otlp) read_url(r, otlp, "otlp_endpoint", &s->otlp);
    s->sample_ratio = take_number(r, from, "sample_ratio", 0, 1);
}

static void read_service(struct config_reader *r, const struct json_value *from) {
    struct service_config *s = r->service;
    r->cache_names = NULL;
    s->app = take_string(r, from, "app");
    s->name = take_string(r, from, "service");
    s->host = take_string(r, from, "host");
    s->port = (uint16_t)take_uint(r, from, "port", 0, 65535);
    s->iterations_per_us = take_number(r, from, "iterations_per_us", 0, 1e9);
    s->seed = read_seed(r, from);
    read_limits(r, from);
    read_tracing(r, from);
    read_labels(r, take_object(r, from, "labels"));
    read_peers(r, take_object(r, from, "peers"));
    const struct json_value *endpoints = take_array(r, from, "endpoints");
    if (!endpoints || r->wrong) return;
    s->endpoints = config_alloc(r, endpoints->count + 1, sizeof *s->endpoints);
    for (const struct json_value *endpoint = endpoints->first; endpoint && !r->wrong; endpoint = endpoint->next) {
        read_endpoint(r, endpoint, &s->endpoints[s->endpoint_count++]);
    }
    refuse_rest(r, from);
}

static void read_root(struct config_reader *r, struct config *config) {
    const struct json_value *root = r->document.root, *services = json_member(root, "services");
    if (services && services->kind != JSON_ARRAY) config_wrong(r, services, "services", "expected an array");
    size_t count = services ? services->count : 1;
    if (count == 0) config_wrong(r, services, "services", "expected at least one service");
    config->services = config_alloc(r, count + 1, sizeof *config->services);
    const struct json_value *from = services ? services->first : root;
    for (; from && !r->wrong; from = services ? from->next : NULL) {
        r->service = &config->services[config->service_count++];
        read_service(r, from);
    }
    if (services) refuse_rest(r, root);
}

int config_read(const char *text, size_t len, struct config *config, char *message, size_t size) {
    struct config_reader r = {.source = text, .message = message, .message_size = size};
    *config = (struct config){0};
    const char *wrong = json_read(text, len, &r.document);
    if (wrong) {
        struct json_value here = {.at = r.document.wrong_at};
        config_wrong(&r, &here, "JSON", "%s", wrong);
    } else {
        read_root(&r, config);
    }
    config->memory = r.memory;
    json_document_free(&r.document);
    return r.wrong ? -1 : 0;
}

void config_free(struct config *config) {
    config_memory_free(config->memory);
    *config = (struct config){0};
}
