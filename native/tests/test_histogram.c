/* Layout, percentiles and merging. With an argument "encode" it prints encodings for the Python test. */
#include <stdlib.h>

#include "check.h"
#include "histogram.h"

static void cells_cover_every_value_to_three_digits(void) {
    for (uint64_t value = 0; value <= HIST_MAX_US; value += value / 700 + 1) {
        uint32_t cell = hist_cell_of(value);
        CHECK(cell < HIST_CELLS);
        CHECK(hist_cell_low(cell) <= value && value <= hist_cell_high(cell));
        CHECK((hist_cell_high(cell) - hist_cell_low(cell)) * 1000 <= value);
    }
    for (uint32_t cell = 0; cell + 1 < HIST_CELLS; cell++) CHECK_INT(hist_cell_low(cell + 1), hist_cell_high(cell) + 1);
}

static void values_beyond_an_hour_count_as_an_hour(void) {
    struct histogram *h = hist_new();
    hist_record(h, UINT64_MAX);
    CHECK_INT(HIST_MAX_US, h->max_us);
    CHECK_INT(HIST_MAX_US, hist_percentile(h, 50));
    free(h);
}

static void percentiles_are_nearest_rank(void) {
    struct histogram *h = hist_new();
    for (uint64_t value = 1; value <= 1000; value++) hist_record(h, value);
    CHECK_INT(1, hist_percentile(h, 0));
    CHECK_INT(500, hist_percentile(h, 50));
    CHECK_INT(990, hist_percentile(h, 99));
    CHECK_INT(999, hist_percentile(h, 99.9));
    CHECK_INT(1000, hist_percentile(h, 99.99));
    CHECK_INT(1000, hist_percentile(h, 100));
    CHECK_NEAR(500.5, hist_mean(h), 1e-9);
    CHECK_NEAR(288.819, hist_stdev(h), 1e-3);
    CHECK_NEAR(0.5, hist_share_within(h, 250.0), 0.001);
    free(h);
}

static void an_empty_histogram_is_all_zeros(void) {
    struct histogram *h = hist_new();
    CHECK_INT(0, hist_percentile(h, 99));
    CHECK_NEAR(0, hist_mean(h), 0);
    CHECK_NEAR(0, hist_stdev(h), 0);
    char *text = hist_encode(h);
    CHECK(strncmp(text, "HISTFAAA", 8) == 0);
    free(text);
    free(h);
}

static void merging_equals_recording_all_in_one(void) {
    struct histogram *one = hist_new(), *a = hist_new(), *b = hist_new();
    for (uint64_t i = 0; i < 5000; i++) {
        uint64_t value = i * i * 37 % 90000001;
        hist_record(one, value);
        hist_record(i % 3 ? a : b, value);
    }
    hist_merge(a, b);
    CHECK_INT(one->count, a->count);
    CHECK_INT(one->min_us, a->min_us);
    CHECK_INT(one->max_us, a->max_us);
    CHECK(memcmp(one->cells, a->cells, sizeof one->cells) == 0);
    free(one);
    free(a);
    free(b);
}

/* "value*count,...  encoding": what the decoder in the Python test must find. */
static void print_encoding(const uint64_t *values, const uint64_t *counts, size_t n) {
    struct histogram *h = hist_new();
    for (size_t i = 0; i < n; i++) {
        hist_record(h, values[i]);
        h->cells[hist_cell_of(values[i])] += counts[i] - 1;
        h->count += counts[i] - 1;
        printf("%s%llu*%llu", i ? "," : "", (unsigned long long)values[i], (unsigned long long)counts[i]);
    }
    char *text = hist_encode(h);
    printf(" %s\n", text);
    free(text);
    free(h);
}

static void print_encodings(void) {
    static const uint64_t few[] = {0, 1, 2, 2047, 2048, 123456, HIST_MAX_US}, counts[] = {1, 63, 64, 65, 128, 1, 3};
    static const uint64_t huge[] = {5, 9, 11}, many[] = {1ull << 55, 1ull << 56, (1ull << 60) + 12345};
    static uint64_t wide[60000], ones[60000];
    for (size_t i = 0; i < 60000; i++) {
        wide[i] = i < 2048 ? i : i * i;
        ones[i] = 70;
    }
    print_encoding(few, counts, 7);
    print_encoding(huge, many, 3);
    print_encoding(wide, ones, 2500);
    print_encoding(wide, ones, 60000);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "encode") == 0) {
        print_encodings();
        return 0;
    }
    cells_cover_every_value_to_three_digits();
    values_beyond_an_hour_count_as_an_hour();
    percentiles_are_nearest_rank();
    an_empty_histogram_is_all_zeros();
    merging_equals_recording_all_in_one();
    return check_result();
}
