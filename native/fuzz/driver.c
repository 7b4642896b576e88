/* Runs a target (libFuzzer's LLVMFuzzerTestOneInput) where there is no libFuzzer: on each file that is named, and on
 * those of each folder, which are then changed at random again and again, the same way every time. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "random.h"

#define INPUT_MAX 65536u
#define ROUNDS 20000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct corpus {
    struct buffer *inputs;
    size_t count;
};

static size_t below(uint64_t *random, size_t bound) { return bound ? (size_t)(random_next(random) % bound) : 0; }

/* Change, insert, remove or repeat a part. */
static size_t mutate(uint64_t *random, uint8_t *data, size_t size) {
    static const char special[] = "{}[]\",:\\ \r\n\t0-+.eEu%&=/;\x7f\xff";
    size_t at = below(random, size + 1), n = 1 + below(random, 8);
    switch (below(random, 5)) {
    case 0:
        if (at < size) data[at] = (uint8_t)random_next(random);
        return size;
    case 1:
        if (at < size) data[at] = (uint8_t)special[below(random, sizeof special)];
        return size;
    case 2:
        if (n > size - at) n = size - at;
        memmove(data + at, data + at + n, size - at - n);
        return size - n;
    case 3: {
        size_t from = below(random, size + 1);
        n = below(random, 64);
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

static struct buffer read_file(const char *path) {
    struct buffer input = {.data = must_alloc(INPUT_MAX, 1), .capacity = INPUT_MAX};
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(2);
    }
    input.len = fread(input.data, 1, INPUT_MAX, file);
    fclose(file);
    return input;
}

static struct corpus read_folder(const char *path) {
    struct corpus corpus = {0};
    struct dirent **entries = NULL;
    int n = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.') {
            corpus.inputs = must_realloc(corpus.inputs, corpus.count + 1, sizeof *corpus.inputs);
            corpus.inputs[corpus.count++] = read_file(name);
        }
        free(entries[i]);
    }
    free(entries);
    return corpus;
}

/* From memory of just that size, where reading too far is seen. */
static void run(const void *data, size_t size) {
    uint8_t *copy = memcpy(must_alloc(size, 1), data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void run_corpus(const struct corpus *corpus) {
    static uint8_t data[INPUT_MAX];
    uint64_t random = 1;
    for (size_t i = 0; i < corpus->count; i++) run(corpus->inputs[i].data, corpus->inputs[i].len);
    for (size_t round = 0; round < ROUNDS; round++) {
        const struct buffer *input = &corpus->inputs[round % corpus->count];
        size_t size = input->len;
        memcpy(data, input->data, size);
        for (size_t changes = below(&random, 6); changes; changes--) size = mutate(&random, data, size);
        run(data, size);
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        struct corpus corpus = read_folder(argv[i]);
        if (corpus.count) {
            run_corpus(&corpus);
        } else {
            struct buffer input = read_file(argv[i]);
            run(input.data, input.len);
            buffer_free(&input);
        }
        for (size_t k = 0; k < corpus.count; k++) buffer_free(&corpus.inputs[k]);
        free(corpus.inputs);
    }
    return argc > 1 ? 0 : 2;
}
