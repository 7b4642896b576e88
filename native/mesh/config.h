/* A resolved topology as the server works on it: read from JSON (pytest_aefm/mesh/resolved.py has the contract),
 * checked, never changed after. */
#ifndef AEFM_MESH_CONFIG_H
#define AEFM_MESH_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mesh/sampler.h"
#include "url.h"

enum step_kind {
    STEP_CPU,
    STEP_WAIT,
    STEP_MEMORY,
    STEP_STATE,
    STEP_FAIL,
    STEP_CALL,
    STEP_CACHE,
    STEP_PARALLEL,
    STEP_CHOICE,
};

struct steps {
    struct step *list;
    uint32_t count;
};

struct memory_step {
    uint64_t touch_bytes, working_set_bytes;
};

struct state_step {
    uint64_t write_bytes, limit_bytes;
    double scan_iterations_per_byte;
};

struct fail_step {
    int status;
    bool windowed;
    uint64_t from_ns, to_ns, every_ns; /* every_ns 0: once */
};

struct call_step {
    struct peer_config *peer;
    const char *method, *path, *name; /* name: "METHOD PATH" as spans have it */
    bool forward_query, idempotent;
    uint64_t timeout_ns;
    uint32_t attempts; /* retries at most */
    double backoff_ms, backoff_max_ms;
    uint64_t request_bytes;
};

struct cache_step {
    struct steps miss;
    bool by_ratio;
    double hit_ratio;
    uint32_t cache;     /* index into the service's caches */
    const char *key;    /* the parameter, NULL where keys are drawn */
    struct zipf keys;
};

/* One list of steps of a `parallel` (weight unused) or of a `choice`. */
struct group {
    double weight;
    struct steps steps;
};

struct groups {
    struct group *list;
    uint32_t count;
    double weight; /* the sum */
};

struct step {
    enum step_kind kind;
    double probability;
    union {
        uint64_t iterations;
        struct wait wait;
        struct memory_step memory;
        struct state_step state;
        struct fail_step fail;
        struct call_step call;
        struct cache_step cache;
        struct groups groups;
    };
};

struct endpoint_config {
    const char *method, *path, *name;
    bool pattern; /* the path has {segments} */
    const char **parameters;
    uint32_t parameter_count;
    uint64_t response_bytes;
    struct steps steps;
};

enum balance { BALANCE_ROUND_ROBIN, BALANCE_LEAST_CONNECTIONS };

struct peer_config {
    const char *name;
    uint32_t index; /* in the service's peers */
    struct url *urls;
    uint32_t url_count;
    enum balance balance;
    double retry_budget;        /* negative: no bound */
    uint32_t breaker_failures;  /* 0: no breaker */
    uint64_t breaker_open_ns;
};

struct label {
    const char *name, *value;
};

struct service_config {
    const char *app, *name, *host;
    uint16_t port;
    struct peer_config *peers;
    uint32_t peer_count;
    struct endpoint_config *endpoints;
    uint32_t endpoint_count;
    struct label *labels;
    uint32_t label_count;
    uint32_t *cache_capacities;
    uint32_t cache_count;
    bool has_otlp;
    struct url otlp;
    double iterations_per_us, sample_ratio;
    uint64_t seed;
    uint32_t threads, workers, queue; /* workers 0: no limit */
    uint64_t working_set_bytes;
    bool faults;
    uint32_t span_queue;
    uint64_t export_interval_ns;
};

struct config {
    struct service_config *services;
    uint32_t service_count;
    void *memory; /* all of the above */
};

/* Read a ServiceConfig or a GroupConfig. Return 0; or -1 with what is wrong in `message`, line first ("12: port:
 * expected ..."). Either way config_free() is due. */
int config_read(const char *text, size_t len, struct config *config, char *message, size_t size);
void config_free(struct config *config);

#endif
