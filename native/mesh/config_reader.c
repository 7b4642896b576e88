#include "mesh/config_reader.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"

struct config_block {
    struct config_block *next;
    _Alignas(16) char data[];
};

void *config_alloc(struct config_reader *r, size_t count, size_t size) {
    struct config_block *block = must_alloc(1, sizeof *block + count * size);
    block->next = r->memory;
    r->memory = block;
    return block->data;
}

void config_memory_free(void *memory) {
    for (struct config_block *block = memory, *next; block; block = next) {
        next = block->next;
        free(block);
    }
}

const char *config_text(struct config_reader *r, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int len = vsnprintf(NULL, 0, format, arguments);
    char *text = config_alloc(r, (size_t)len + 1, 1);
    vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    va_end(arguments);
    return text;
}

void config_wrong(struct config_reader *r, const struct json_value *at, const char *key, const char *format, ...) {
    if (r->wrong) return;
    r->wrong = true;
    size_t line = 1;
    for (size_t i = 0; at && i < at->at; i++) line += r->source[i] == '\n';
    int len = snprintf(r->message, r->message_size, "%zu: %s: ", line, key);
    if (len < 0 || (size_t)len >= r->message_size) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->message + len, r->message_size - (size_t)len, format, arguments);
    va_end(arguments);
}

static struct json_value *need(struct config_reader *r, const struct json_value *object, const char *key,
                               enum json_kind kind, const char *what) {
    struct json_value *value = json_member(object, key);
    if (value && value->kind == kind) return value;
    config_wrong(r, value ? value : object, key, "expected %s%s", what, value ? "" : ", it is missing");
    return NULL;
}

double take_number(struct config_reader *r, const struct json_value *object, const char *key, double low, double high) {
    struct json_value *value = need(r, object, key, JSON_NUMBER, "a number");
    if (!value) return low;
    if (value->number >= low && value->number <= high) return value->number;
    config_wrong(r, value, key, "expected a number of %g to %g, got %s", low, high, value->text);
    return low;
}

double take_number_or(struct config_reader *r, const struct json_value *object, const char *key, double low, double high,
                      double fallback) {
    return json_member(object, key) ? take_number(r, object, key, low, high) : fallback;
}

uint64_t take_uint(struct config_reader *r, const struct json_value *object, const char *key, uint64_t low,
                   uint64_t high) {
    double number = take_number(r, object, key, (double)low, (double)high);
    if (number == floor(number)) return (uint64_t)number;
    config_wrong(r, json_member(object, key), key, "expected a whole number");
    return low;
}

uint64_t take_uint_or(struct config_reader *r, const struct json_value *object, const char *key, uint64_t low,
                      uint64_t high, uint64_t fallback) {
    return json_member(object, key) ? take_uint(r, object, key, low, high) : fallback;
}

const char *take_string(struct config_reader *r, const struct json_value *object, const char *key) {
    struct json_value *value = need(r, object, key, JSON_STRING, "a string");
    return value ? config_text(r, "%s", value->text) : "";
}

bool take_bool_or(struct config_reader *r, const struct json_value *object, const char *key, bool fallback) {
    struct json_value *value = json_member(object, key);
    if (!value) return fallback;
    if (value->kind != JSON_TRUE && value->kind != JSON_FALSE) config_wrong(r, value, key, "expected true or false");
    return value->kind == JSON_TRUE;
}

struct json_value *take_object(struct config_reader *r, const struct json_value *object, const char *key) {
    return need(r, object, key, JSON_OBJECT, "an object");
}

struct json_value *take_array(struct config_reader *r, const struct json_value *object, const char *key) {
    return need(r, object, key, JSON_ARRAY, "an array");
}

double *take_numbers(struct config_reader *r, const struct json_value *object, const char *key, uint32_t *count) {
    static double none[2];
    struct json_value *array = take_array(r, object, key);
    uint32_t n = 0;
    if (!array) return none;
    double *numbers = config_alloc(r, array->count + 2, sizeof *numbers);
    for (struct json_value *item = array->first; item; item = item->next, n++) {
        bool fits = item->kind == JSON_NUMBER && item->number >= (n ? numbers[n - 1] : 0.0);
        if (!fits) config_wrong(r, item, key, "expected ascending numbers of at least 0");
        numbers[n] = item->number;
    }
    if (n < 2 || (*count && n != *count)) config_wrong(r, array, key, "expected %s", *count ? "two" : "two or more");
    *count = n;
    return numbers;
}

void refuse_rest(struct config_reader *r, const struct json_value *object) {
    if (!object || object->kind != JSON_OBJECT) return;
    for (const struct json_value *member = object->first; member; member = member->next) {
        if (!member->looked) config_wrong(r, member, member->name, "unknown key");
    }
}
