/* Any bytes as a resolved topology: read or refused, never more. */
#include <stdint.h>
#include <stdlib.h>

#include "mesh/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct config config;
    char message[512];
    config_read((const char *)data, size, &config, message, sizeof message);
    config_free(&config);
    return 0;
}
