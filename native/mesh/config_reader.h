/* Take typed values out of a JSON tree; the first thing that is wrong is kept, with its line. Parts of config_read(). */
#ifndef AEFM_MESH_CONFIG_READER_H
#define AEFM_MESH_CONFIG_READER_H

#include <stdarg.h>

#include "mesh/config.h"
#include "mesh/json_reader.h"

struct config_reader {
    const char *source;
    struct json_document document;
    struct config_block *memory;    /* what is handed out */
    struct service_config *service; /* the one being read */
    struct cache_name *cache_names; /* of that service */
    char *message;
    size_t message_size;
    bool wrong;
};

/* Zeroed memory that lives as long as the configuration. */
void *config_alloc(struct config_reader *r, size_t count, size_t size);
const char *config_text(struct config_reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
void config_memory_free(void *memory);

void config_wrong(struct config_reader *r, const struct json_value *at, const char *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Each takes member `key` of `object`. Those with a `fallback` admit its absence. After config_wrong() they go on with
 * some value, so that only the end has to look. */
double take_number(struct config_reader *r, const struct json_value *object, const char *key, double low, double high);
double take_number_or(struct config_reader *r, const struct json_value *object, const char *key, double low, double high,
                      double fallback);
uint64_t take_uint(struct config_reader *r, const struct json_value *object, const char *key, uint64_t low,
                   uint64_t high);
uint64_t take_uint_or(struct config_reader *r, const struct json_value *object, const char *key, uint64_t low,
                      uint64_t high, uint64_t fallback);
const char *take_string(struct config_reader *r, const struct json_value *object, const char *key);
bool take_bool_or(struct config_reader *r, const struct json_value *object, const char *key, bool fallback);
struct json_value *take_object(struct config_reader *r, const struct json_value *object, const char *key);
struct json_value *take_array(struct config_reader *r, const struct json_value *object, const char *key);

/* Two or more ascending numbers of at least 0; `count` 0: any number of them. */
double *take_numbers(struct config_reader *r, const struct json_value *object, const char *key, uint32_t *count);

/* Refuse members of `object` that nobody took. */
void refuse_rest(struct config_reader *r, const struct json_value *object);

/* Of config_steps.c. */
void read_steps(struct config_reader *r, const struct json_value *array, struct steps *steps);

#endif
