/* Any bytes as a resolved topology: read or refused, never more. */
#include <stdint.h>
#include <stdlib.h>

#include "mesh/config.h"

#define START                                                                                                        \
    "{\"app\":\"a\",\"service\":\"s\",\"host\":\"127.0.0.1\",\"port\":80,\"iterations_per_us\":1.5e2,"               \
    "\"peers\":{\"b\":{\"urls\":[\"http://b:82\"],\"balance\":\"round_robin\",\"retry_budget\":0.2,"                 \
    "\"breaker\":{\"failures\":3,\"open_ms\":10}}},\"otlp_endpoint\":\"http://o:4318/v1/traces\",\"sample_ratio\":1,"  \
    "\"seed\":12345678901234567890,\"labels\":{\"k\":\"\\u00e9\"},\"threads\":2,\"workers\":3,\"queue\":4,"           \
    "\"endpoints\":[{\"method\":\"GET\",\"path\":\"/x/{id}\",\"parameters\":[\"p\"],\"response_bytes\":7,\"steps\":["

const char *const fuzz_seeds[] = {
    START "{\"cpu_us\":5,\"probability\":0.5},{\"wait\":{\"lognormal_ms\":{\"median\":1,\"sigma\":0.3}}},"
          "{\"wait\":{\"empirical_ms\":[1,2,3]}},{\"wait\":{\"uniform_ms\":[1,2]}}]}]}",
    START "{\"call\":{\"service\":\"b\",\"method\":\"GET\",\"path\":\"/{id}\",\"forward_query\":true,\"timeout_ms\":9,"
          "\"retries\":{\"attempts\":2,\"backoff_ms\":1,\"backoff_max_ms\":5}}},{\"fail\":{\"status\":503,\"window_s\":[1,2]}}]}]}",
    START "{\"cache\":{\"name\":\"c\",\"capacity\":3,\"keys\":9,\"skew\":0.9,\"miss\":[{\"choice\":[{\"weight\":1,\"steps\":[]}]}]}},"
          "{\"parallel\":[[{\"memory\":{\"touch_bytes\":64,\"working_set_bytes\":128}}],[{\"state\":{\"write_bytes\":1,"
          "\"limit_bytes\":2}}]]}]}]}",
    "{\"services\":[]}",
    NULL,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct config config;
    char message[512];
    config_read((const char *)data, size, &config, message, sizeof message);
    config_free(&config);
    return 0;
}
