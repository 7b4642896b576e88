#include "histogram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"

#define HALF_MAGNITUDE 10u
#define ENCODING_COOKIE UINT32_C(0x1c849313)
#define COMPRESSION_COOKIE UINT32_C(0x1c849314)
#define PAYLOAD_HEADER 40u
#define VARINT_MAX 9u
#define STORED_MAX 65535u

struct histogram *hist_new(void) {
    struct histogram *h = calloc(1, sizeof *h);
    if (h) h->min_us = UINT64_MAX;
    return h;
}

uint32_t hist_cell_of(uint64_t value_us) {
    uint64_t value = value_us > HIST_MAX_US ? HIST_MAX_US : value_us;
    uint32_t top = 63u - (uint32_t)__builtin_clzll(value | (HIST_SUB_BUCKETS - 1));
    uint32_t bucket = top - HALF_MAGNITUDE;
    uint32_t sub = (uint32_t)(value >> bucket);
    return ((bucket + 1) << HALF_MAGNITUDE) + sub - HIST_HALF;
}

static uint32_t cell_bucket(uint32_t cell) {
    return cell < HIST_SUB_BUCKETS ? 0 : (cell >> HALF_MAGNITUDE) - 1;
}

uint64_t hist_cell_low(uint32_t cell) {
    if (cell < HIST_SUB_BUCKETS) return cell;
    uint64_t sub = (cell & (HIST_HALF - 1)) + HIST_HALF;
    return sub << cell_bucket(cell);
}

uint64_t hist_cell_high(uint32_t cell) {
    return hist_cell_low(cell) + (UINT64_C(1) << cell_bucket(cell)) - 1;
}

void hist_record(struct histogram *h, uint64_t value_us) {
    uint64_t value = value_us > HIST_MAX_US ? HIST_MAX_US : value_us;
    h->cells[hist_cell_of(value)]++;
    h->count++;
    h->sum_us += (double)value;
    h->sum_squares += (double)value * (double)value;
    if (value < h->min_us) h->min_us = value;
    if (value > h->max_us) h->max_us = value;
}

void hist_merge(struct histogram *into, const struct histogram *from) {
    for (uint32_t i = 0; i < HIST_CELLS; i++) into->cells[i] += from->cells[i];
    into->count += from->count;
    into->sum_us += from->sum_us;
    into->sum_squares += from->sum_squares;
    if (from->min_us < into->min_us) into->min_us = from->min_us;
    if (from->max_us > into->max_us) into->max_us = from->max_us;
}

uint64_t hist_percentile(const struct histogram *h, double percentile) {
    if (h->count == 0) return 0;
    /* The small subtrahend keeps 99.9 % of 1000 at 999 in spite of binary fractions. */
    double wanted = ceil(percentile * (double)h->count / 100.0 - 1e-9 * (double)h->count / 100.0);
    uint64_t rank = wanted < 1.0 ? 1 : (uint64_t)wanted;
    if (rank > h->count) rank = h->count;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HIST_CELLS; i++) {
        seen += h->cells[i];
        if (seen >= rank) return hist_cell_high(i) < h->max_us ? hist_cell_high(i) : h->max_us;
    }
    return h->max_us;
}

double hist_mean(const struct histogram *h) { return h->count ? h->sum_us / (double)h->count : 0.0; }

double hist_stdev(const struct histogram *h) {
    if (h->count < 2) return 0.0;
    double mean = hist_mean(h);
    double variance = (h->sum_squares - mean * h->sum_us) / (double)(h->count - 1);
    return variance > 0.0 ? sqrt(variance) : 0.0;
}

double hist_share_within(const struct histogram *h, double distance) {
    if (h->count == 0) return 0.0;
    double mean = hist_mean(h);
    uint64_t inside = 0;
    for (uint32_t i = 0; i < HIST_CELLS; i++) {
        double middle = ((double)hist_cell_low(i) + (double)hist_cell_high(i)) / 2.0;
        if (h->cells[i] && fabs(middle - mean) <= distance) inside += h->cells[i];
    }
    return (double)inside / (double)h->count;
}

static uint8_t *put_be(uint8_t *at, uint64_t value, unsigned bytes) {
    while (bytes--) *at++ = (uint8_t)(value >> (8 * bytes));
    return at;
}

/* ZigZag, then LEB128 limited to 9 bytes, whose last byte holds 8 bits. */
static uint8_t *put_varint(uint8_t *at, int64_t number) {
    uint64_t value = ((uint64_t)number << 1) ^ (number < 0 ? UINT64_MAX : 0);
    for (unsigned i = 0; i < VARINT_MAX - 1 && value >= 0x80; i++, value >>= 7) {
        if (i == VARINT_MAX - 2) {
            *at++ = (uint8_t)((value & 0x7f) | 0x80);
            *at++ = (uint8_t)(value >> 7);
            return at;
        }
        *at++ = (uint8_t)((value & 0x7f) | 0x80);
    }
    *at++ = (uint8_t)value;
    return at;
}

/* Counts in order of value; a run of zeros is one negative number. */
static uint8_t *put_cells(uint8_t *at, const struct histogram *h) {
    uint32_t end = h->count ? hist_cell_of(h->max_us) + 1 : 0;
    for (uint32_t i = 0; i < end;) {
        uint32_t run = 0;
        while (i + run < end && h->cells[i + run] == 0) run++;
        if (run) {
            at = put_varint(at, -(int64_t)run);
            i += run;
        } else {
            at = put_varint(at, (int64_t)h->cells[i++]);
        }
    }
    return at;
}

static uint32_t adler32(const uint8_t *data, size_t len) {
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < len; i++) {
        a = (a + data[i]) % 65521u;
        b = (b + a) % 65521u;
    }
    return (b << 16) | a;
}

/* RFC 1950 and 1951: zlib header, stored blocks, checksum. */
static uint8_t *put_zlib(uint8_t *at, const uint8_t *data, size_t len) {
    at = put_be(at, 0x7801, 2);
    for (size_t done = 0; done < len;) {
        size_t part = len - done < STORED_MAX ? len - done : STORED_MAX;
        *at++ = done + part == len;
        *at++ = (uint8_t)part;
        *at++ = (uint8_t)(part >> 8);
        *at++ = (uint8_t)~part;
        *at++ = (uint8_t)(~part >> 8);
        memcpy(at, data + done, part);
        at += part;
        done += part;
    }
    return put_be(at, adler32(data, len), 4);
}

char *hist_encode(const struct histogram *h) {
    size_t payload_max = PAYLOAD_HEADER + (size_t)HIST_CELLS * VARINT_MAX;
    uint8_t *payload = malloc(payload_max);
    uint8_t *wire = malloc(payload_max + payload_max / STORED_MAX * 5 + 64);
    char *text = NULL;
    if (payload && wire) {
        uint8_t *end = put_cells(payload + PAYLOAD_HEADER, h);
        uint8_t *at = put_be(payload, ENCODING_COOKIE, 4);
        at = put_be(at, (uint64_t)(end - payload) - PAYLOAD_HEADER, 4);
        at = put_be(at, 0, 4);
        at = put_be(at, 3, 4);
        at = put_be(at, 1, 8);
        at = put_be(at, HIST_MAX_US, 8);
        put_be(at, UINT64_C(0x3ff0000000000000), 8); /* conversion ratio: the double 1.0 */
        uint8_t *wire_end = put_zlib(wire + 8, payload, (size_t)(end - payload));
        put_be(put_be(wire, COMPRESSION_COOKIE, 4), (uint64_t)(wire_end - wire) - 8, 4);
        text = base64_encode(wire, (size_t)(wire_end - wire));
    }
    free(payload);
    free(wire);
    return text;
}
