/* What an endpoint does, from JSON. */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "mesh/config_reader.h"
#include "mesh/lru.h"

#define MS_MAX 86400e3
#define BYTES_MAX (UINT64_C(1) << 40)

struct cache_name {
    struct cache_name *next;
    const char *name;
    uint32_t index;
};

static uint64_t ms_to_ns(double ms) { return (uint64_t)(ms * 1e6); }

static struct wait read_wait(struct config_reader *r, const struct json_value *from) {
    struct wait wait = {.kind = WAIT_CONSTANT};
    const char *kind = from && from->kind == JSON_OBJECT && from->count == 1 ? from->first->name : "";
    if (strcmp(kind, "constant_ms") == 0) {
        wait.a = take_number(r, from, kind, 0, MS_MAX);
    } else if (strcmp(kind, "exponential_ms") == 0) {
        wait = (struct wait){.kind = WAIT_EXPONENTIAL, .a = take_number(r, from, kind, 0, MS_MAX)};
    } else if (strcmp(kind, "uniform_ms") == 0) {
        uint32_t two = 2;
        double *bounds = take_numbers(r, from, kind, &two);
        wait = (struct wait){.kind = WAIT_UNIFORM, .a = bounds[0], .b = bounds[1]};
    } else if (strcmp(kind, "lognormal_ms") == 0) {
        const struct json_value *of = take_object(r, from, kind);
        double median = take_number(r, of, "median", 0, MS_MAX), sigma = take_number(r, of, "sigma", 0, 100);
        wait = (struct wait){.kind = WAIT_LOGNORMAL, .a = median, .b = sigma};
        refuse_rest(r, of);
    } else if (strcmp(kind, "pareto_ms") == 0) {
        const struct json_value *of = take_object(r, from, kind);
        double minimum = take_number(r, of, "minimum", 0, MS_MAX), shape = take_number(r, of, "shape", 0.01, 1e6);
        wait = (struct wait){.kind = WAIT_PARETO, .a = minimum, .b = shape};
        refuse_rest(r, of);
    } else if (strcmp(kind, "empirical_ms") == 0) {
        wait.kind = WAIT_EMPIRICAL;
        wait.quantiles_ms = take_numbers(r, from, kind, &wait.count);
    } else {
        config_wrong(r, from, "wait", "expected exactly one known distribution");
    }
    return wait;
}

static struct memory_step read_memory(struct config_reader *r, const struct json_value *from) {
    struct memory_step step = {.touch_bytes = take_uint(r, from, "touch_bytes", 0, BYTES_MAX),
                               .working_set_bytes = take_uint(r, from, "working_set_bytes", 64, BYTES_MAX)};
    struct service_config *service = r->service;
    if (step.working_set_bytes > service->working_set_bytes) service->working_set_bytes = step.working_set_bytes;
    return step;
}

static struct state_step read_state(struct config_reader *r, const struct json_value *from) {
    struct state_step step = {.write_bytes = take_uint(r, from, "write_bytes", 0, BYTES_MAX),
                              .limit_bytes = take_uint(r, from, "limit_bytes", 0, BYTES_MAX)};
    double per_mib_us = take_number_or(r, from, "scan_us_per_mib", 0, 1e9, 0);
    step.scan_iterations_per_byte = per_mib_us * r->service->iterations_per_us / (1 << 20);
    return step;
}

static struct fail_step read_fail(struct config_reader *r, const struct json_value *from) {
    struct fail_step step = {.status = (int)take_uint(r, from, "status", 400, 599)};
    if (json_member(from, "window_s")) {
        uint32_t two = 2;
        double *bounds_s = take_numbers(r, from, "window_s", &two);
        step.windowed = true;
        step.from_ns = (uint64_t)(bounds_s[0] * 1e9);
        step.to_ns = (uint64_t)(bounds_s[1] * 1e9);
    }
    step.every_ns = (uint64_t)(take_number_or(r, from, "every_s", 0.001, 1e9, 0) * 1e9);
    return step;
}

static struct peer_config *find_peer(struct config_reader *r, const struct json_value *from) {
    const char *name = take_string(r, from, "service");
    for (uint32_t i = 0; i < r->service->peer_count; i++) {
        if (strcmp(r->service->peers[i].name, name) == 0) return &r->service->peers[i];
    }
    config_wrong(r, json_member(from, "service"), "service", "expected one of peers, got '%s'", name);
    return NULL;
}

static struct call_step read_call(struct config_reader *r, const struct json_value *from) {
    struct call_step step = {.peer = find_peer(r, from),
                             .method = take_string(r, from, "method"),
                             .path = take_string(r, from, "path"),
                             .forward_query = take_bool_or(r, from, "forward_query", false)};
    step.name = config_text(r, "%s %s", step.method, step.path);
    step.idempotent = strcmp(step.method, "POST") != 0 && strcmp(step.method, "PATCH") != 0;
    step.timeout_ns = ms_to_ns(take_number_or(r, from, "timeout_ms", 0.001, MS_MAX, 30e3));
    step.request_bytes = take_uint_or(r, from, "request_bytes", 0, 16 << 20, 0);
    if (step.path[0] != '/') config_wrong(r, json_member(from, "path"), "path", "expected a path that starts with '/'");
    if (!json_member(from, "retries")) return step;
    const struct json_value *retries = take_object(r, from, "retries");
    step.attempts = (uint32_t)take_uint(r, retries, "attempts", 0, 100);
    step.backoff_ms = take_number(r, retries, "backoff_ms", 0, MS_MAX);
    step.backoff_max_ms = take_number(r, retries, "backoff_max_ms", 0, MS_MAX);
    refuse_rest(r, retries);
    return step;
}

/* The index of the service's cache of that name; all steps that name it must agree on its capacity. */
static uint32_t find_cache(struct config_reader *r, const struct json_value *from, uint32_t capacity) {
    const char *name = take_string(r, from, "name");
    struct service_config *service = r->service;
    for (struct cache_name *known = r->cache_names; known; known = known->next) {
        if (strcmp(known->name, name) != 0) continue;
        if (service->cache_capacities[known->index] != capacity) {
            config_wrong(r, from, "capacity", "expected the same for all of cache '%s'", name);
        }
        return known->index;
    }
    struct cache_name *added = config_alloc(r, 1, sizeof *added);
    *added = (struct cache_name){r->cache_names, name, service->cache_count};
    r->cache_names = added;
    uint32_t *capacities = config_alloc(r, service->cache_count + 1, sizeof *capacities);
    for (uint32_t i = 0; i < service->cache_count; i++) capacities[i] = service->cache_capacities[i];
    capacities[service->cache_count] = capacity;
    service->cache_capacities = capacities;
    return service->cache_count++;
}

static struct cache_step read_cache(struct config_reader *r, const struct json_value *from) {
    struct cache_step step = {.by_ratio = json_member(from, "hit_ratio") != NULL};
    read_steps(r, take_array(r, from, "miss"), &step.miss);
    if (step.by_ratio) {
        step.hit_ratio = take_number(r, from, "hit_ratio", 0, 1);
        return step;
    }
    step.cache = find_cache(r, from, (uint32_t)take_uint(r, from, "capacity", 1, LRU_CAPACITY_MAX));
    if (json_member(from, "key")) {
        step.key = take_string(r, from, "key");
    } else {
        uint64_t keys = take_uint(r, from, "keys", 1, UINT64_C(1) << 40);
        step.keys = zipf_new(keys, take_number_or(r, from, "skew", 0, 10, 0));
    }
    return step;
}

static struct groups read_groups(struct config_reader *r, const struct json_value *array, bool weighed) {
    struct groups groups = {0};
    if (!array) return groups;
    if (array->count == 0) config_wrong(r, array, weighed ? "choice" : "parallel", "expected at least one group");
    groups.list = config_alloc(r, array->count, sizeof *groups.list);
    for (const struct json_value *item = array->first; item; item = item->next, groups.count++) {
        struct group *group = &groups.list[groups.count];
        group->weight = weighed ? take_number(r, item, "weight", 0, 1e12) : 1.0;
        groups.weight += group->weight;
        if (!weighed && item->kind != JSON_ARRAY) config_wrong(r, item, "parallel", "expected groups of steps");
        read_steps(r, weighed ? take_array(r, item, "steps") : item, &group->steps);
        if (weighed) refuse_rest(r, item);
    }
    if (weighed && groups.weight <= 0) config_wrong(r, array, "choice", "expected a weight above 0");
    return groups;
}

static const struct json_value *step_object(struct config_reader *r, const struct json_value *from, const char *key,
                                            enum step_kind kind, struct step *step) {
    if (!json_member(from, key)) return NULL;
    if (step->probability < 0) config_wrong(r, from, key, "expected one kind per step");
    step->kind = kind;
    step->probability = -1; /* marks that a kind was found, until the end of read_step() */
    return kind == STEP_PARALLEL || kind == STEP_CHOICE ? take_array(r, from, key) : take_object(r, from, key);
}

static struct step read_step(struct config_reader *r, const struct json_value *from) {
    struct step step = {0};
    const struct json_value *of;
    double probability = take_number_or(r, from, "probability", 0, 1, 1.0);
    if (json_member(from, "cpu_us")) {
        step.iterations = (uint64_t)(take_number(r, from, "cpu_us", 0, 1e9) * r->service->iterations_per_us + 0.5);
        step.probability = -1;
    }
    if ((of = step_object(r, from, "wait", STEP_WAIT, &step))) step.wait = read_wait(r, of);
    if ((of = step_object(r, from, "memory", STEP_MEMORY, &step))) step.memory = read_memory(r, of);
    if ((of = step_object(r, from, "state", STEP_STATE, &step))) step.state = read_state(r, of);
    if ((of = step_object(r, from, "fail", STEP_FAIL, &step))) step.fail = read_fail(r, of);
    if ((of = step_object(r, from, "call", STEP_CALL, &step))) step.call = read_call(r, of);
    if ((of = step_object(r, from, "cache", STEP_CACHE, &step))) step.cache = read_cache(r, of);
    if ((of = step_object(r, from, "parallel", STEP_PARALLEL, &step))) step.groups = read_groups(r, of, false);
    if ((of = step_object(r, from, "choice", STEP_CHOICE, &step))) step.groups = read_groups(r, of, true);
    if (step.probability == 0) config_wrong(r, from, "steps", "expected a step of a known kind");
    refuse_rest(r, from);
    for (const struct json_value *member = from->first; member; member = member->next) refuse_rest(r, member);
    step.probability = probability;
    return step;
}

void read_steps(struct config_reader *r, const struct json_value *array, struct steps *steps) {
    *steps = (struct steps){0};
    if (!array || r->wrong) return;
    steps->list = config_alloc(r, array->count ? array->count : 1, sizeof *steps->list);
    for (const struct json_value *item = array->first; item && !r->wrong; item = item->next) {
        if (item->kind != JSON_OBJECT) config_wrong(r, item, "steps", "expected an object");
        else steps->list[steps->count++] = read_step(r, item);
    }
}
