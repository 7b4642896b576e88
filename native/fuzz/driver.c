/* Runs a target (libFuzzer's LLVMFuzzerTestOneInput) where there is no libFuzzer: on the target's own seeds, each of them
 * changed at random again and again, the same way every time; or, with arguments, on those files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/sampler.h"

#define INPUT_MAX 65536u
#define ROUNDS 20000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The target's examples of good inputs, up to a NULL. */
extern const char *const fuzz_seeds[];

static size_t below(struct rng *rng, size_t bound) { return bound ? (size_t)(rng_next(rng) % bound) : 0; }

/* Change, insert, remove or repeat a part. */
static size_t mutate(struct rng *rng, uint8_t *data, size_t size) {
    static const char special[] = "{}[]\",:\\ \r\n\t0-+.eEu%&=/;\x7f\xff";
    size_t at = below(rng, size + 1), n = 1 + below(rng, 8);
    switch (below(rng, 5)) {
    case 0:
        if (at < size) data[at] = (uint8_t)rng_next(rng);
        return size;
    case 1:
        if (at < size) data[at] = (uint8_t)special[below(rng, sizeof special)];
        return size;
    case 2:
        if (n > size - at) n = size - at;
        memmove(data + at, data + at + n, size - at - n);
        return size - n;
    case 3: {
        size_t from = below(rng, size + 1);
        n = below(rng, 64);
        if (n > size - from) n = size - from;
        if (size + n > INPUT_MAX) return size;
        uint8_t piece[64];
        memcpy(piece, data + from, n);
        memmove(data + at + n, data + at, size - at);
        memcpy(data + at, piece, n);
        return size + n;
    }
    default:
        return at;
    }
}

static void run_file(const char *path) {
    static uint8_t data[INPUT_MAX];
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(2);
    }
    size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    LLVMFuzzerTestOneInput(data, size);
}

int main(int argc, char **argv) {
    static uint8_t data[INPUT_MAX];
    struct rng rng;
    size_t seeds = 0;
    rng_seed(&rng, 1);
    for (int i = 1; i < argc; i++) run_file(argv[i]);
    if (argc > 1) return 0;
    while (fuzz_seeds[seeds]) seeds++;
    for (int round = 0; round < ROUNDS; round++) {
        const char *seed = fuzz_seeds[(size_t)round % seeds];
        size_t size = strlen(seed);
        memcpy(data, seed, size);
        for (size_t changes = below(&rng, 6); changes; changes--) size = mutate(&rng, data, size);
        LLVMFuzzerTestOneInput(data, size);
    }
    return 0;
}
