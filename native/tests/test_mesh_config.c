/* A resolved service becomes steps; what is wrong with it is said with its line. */
#include <stdlib.h>

#include "check.h"
#include "mesh/config.h"

#define SERVICE(steps, more)                                                                                        \
    "{\"app\": \"a\", \"service\": \"s\", \"host\": \"127.0.0.1\", \"port\": 80, \"iterations_per_us\": 10, \n"     \
    "\"peers\": {\"b\": {\"urls\": [\"http://10.0.0.1:81\", \"http://b:82\"], \"balance\": \"least_connections\"}},\n" \
    "\"otlp_endpoint\": null, \"sample_ratio\": 0.5, \"seed\": 18446744073709551999, \"labels\": {\"k\": \"v\"}, \n" \
    "\"endpoints\": [{\"method\": \"GET\", \"path\": \"/x/{id}\", \"parameters\": [\"p\"], \"response_bytes\": 7,\n" \
    "\"steps\": [" steps "]}]" more "}"

static void read_and_check(const char *text, const char *expected) {
    struct config config;
    char message[256] = "";
    int status = config_read(text, strlen(text), &config, message, sizeof message);
    CHECK_INT(*expected ? -1 : 0, status);
    CHECK_TEXT(expected, message);
    config_free(&config);
}

static const struct step *read_step(const char *text, struct config *config) {
    char message[256] = "";
    CHECK_INT(0, config_read(text, strlen(text), config, message, sizeof message));
    CHECK_TEXT("", message);
    return config->service_count ? config->services[0].endpoints[0].steps.list : NULL;
}

static void a_service_is_read_with_its_defaults(void) {
    struct config config;
    const struct step *step = read_step(SERVICE("{\"cpu_us\": 2.5, \"probability\": 0.5}", ""), &config);
    const struct service_config *s = &config.services[0];
    CHECK_INT(STEP_CPU, step->kind);
    CHECK_INT(25, step->iterations);
    CHECK(step->probability == 0.5);
    CHECK_INT(1, s->threads);
    CHECK_INT(0, s->workers);
    CHECK_INT(UINT32_MAX, s->queue);
    CHECK(!s->faults && !s->has_otlp);
    CHECK_INT(32768, s->span_queue);
    CHECK_INT(2, s->peers[0].url_count);
    CHECK_TEXT("82", s->peers[0].urls[1].port);
    CHECK_INT(BALANCE_LEAST_CONNECTIONS, s->peers[0].balance);
    CHECK(s->endpoints[0].pattern && s->endpoints[0].parameter_count == 1);
    config_free(&config);
}

static void calls_have_their_retries_and_time_out(void) {
    struct config config;
    const struct step *step = read_step(
        SERVICE("{\"call\": {\"service\": \"b\", \"method\": \"POST\", \"path\": \"/y\", \"forward_query\": true, \"timeout_ms\": 5, "
                "\"retries\": {\"attempts\": 3, \"backoff_ms\": 10, \"backoff_max_ms\": 50}}}", ""), &config);
    CHECK_TEXT("POST /y", step->call.name);
    CHECK_INT(5000000, step->call.timeout_ns);
    CHECK_INT(3, step->call.attempts);
    CHECK(!step->call.idempotent && step->call.forward_query);
    config_free(&config);
}

static void caches_of_one_name_are_one(void) {
    struct config config;
    read_step(SERVICE("{\"cache\": {\"name\": \"c\", \"capacity\": 5, \"keys\": 9, \"miss\": []}}, "
                      "{\"cache\": {\"name\": \"c\", \"capacity\": 5, \"key\": \"id\", \"miss\": [{\"cpu_us\": 1}]}}", ""), &config);
    CHECK_INT(1, config.services[0].cache_count);
    config_free(&config);
}

static void groups_nest(void) {
    struct config config;
    const struct step *step = read_step(
        SERVICE("{\"choice\": [{\"weight\": 1, \"steps\": []}, {\"weight\": 3, \"steps\": [{\"parallel\": [[{\"cpu_us\": 1}], []]}]}]}", ""),
        &config);
    CHECK_INT(2, step->groups.count);
    CHECK(step->groups.weight == 4);
    CHECK_INT(STEP_PARALLEL, step->groups.list[1].steps.list[0].kind);
    config_free(&config);
}

static void mistakes_are_named_with_their_line(void) {
    read_and_check("{", "1: JSON: expected the end of the list");
    read_and_check("[]", "1: app: expected a string, it is missing");
    read_and_check("{\"services\": []}", "1: services: expected at least one service");
    read_and_check(SERVICE("{\"cpu_us\": -1}", ""), "5: cpu_us: expected a number of 0 to 1e+09, got -1");
    read_and_check(SERVICE("{\"cpu_us\": 1, \"wait\": {\"constant_ms\": 1}}", ""), "5: wait: expected one kind per step");
    read_and_check(SERVICE("{\"probability\": 1}", ""), "5: steps: expected a step of a known kind");
    read_and_check(SERVICE("{\"wait\": {\"never_ms\": 1}}", ""), "5: wait: expected exactly one known distribution");
    read_and_check(SERVICE("{\"wait\": {\"uniform_ms\": [2, 1]}}", ""), "5: uniform_ms: expected ascending numbers of at least 0");
    read_and_check(SERVICE("{\"wait\": {\"empirical_ms\": [1]}}", ""), "5: empirical_ms: expected two or more");
    read_and_check(SERVICE("{\"fail\": {\"status\": 200}}", ""), "5: status: expected a number of 400 to 599, got 200");
    read_and_check(SERVICE("{\"fail\": {\"status\": 500, \"often\": 1}}", ""), "5: often: unknown key");
    read_and_check(SERVICE("{\"call\": {\"service\": \"c\", \"method\": \"GET\", \"path\": \"/\"}}", ""),
                   "5: service: expected one of peers, got 'c'");
    read_and_check(SERVICE("{\"cache\": {\"hit_ratio\": 2, \"miss\": []}}", ""), "5: hit_ratio: expected a number of 0 to 1, got 2");
    read_and_check(SERVICE("{\"choice\": [{\"weight\": 0, \"steps\": []}]}", ""), "5: choice: expected a weight above 0");
    read_and_check(SERVICE("{\"parallel\": []}", ""), "5: parallel: expected at least one group");
    read_and_check(SERVICE("", ",\n\"workers\": 1.5"), "6: workers: expected a whole number");
    read_and_check(SERVICE("", ",\n\"worker\": 1"), "6: worker: unknown key");
}

int main(void) {
    a_service_is_read_with_its_defaults();
    calls_have_their_retries_and_time_out();
    caches_of_one_name_are_one();
    groups_nest();
    mistakes_are_named_with_their_line();
    return check_result();
}
