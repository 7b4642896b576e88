/* Latency histogram in HdrHistogram's layout: 1 us to 1 hour at 3 significant digits.
 *
 * Values are microseconds. Values above one hour are counted in the last cell and as one hour. The exact
 * minimum, maximum and mean are kept beside the cells. A histogram belongs to one thread; merge after the run.
 */
#ifndef AEFM_HISTOGRAM_H
#define AEFM_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HIST_MAX_US UINT64_C(3600000000)
#define HIST_SUB_BUCKETS 2048u
#define HIST_HALF (HIST_SUB_BUCKETS / 2u)
#define HIST_BUCKETS 22u
#define HIST_CELLS ((HIST_BUCKETS + 1u) * HIST_HALF)

struct histogram {
    uint64_t count;
    uint64_t min_us; /* UINT64_MAX while empty */
    uint64_t max_us;
    double sum_us;
    double sum_squares;
    uint64_t cells[HIST_CELLS];
};

/* Return an empty histogram, or NULL when memory is out. The caller frees it with free(). */
struct histogram *hist_new(void);

void hist_record(struct histogram *h, uint64_t value_us);

/* Add all of `from` to `into`. */
void hist_merge(struct histogram *into, const struct histogram *from);

/* Return the smallest recorded value (as the upper edge of its cell, at most the maximum) that at least
 * `percentile` per cent of the values do not exceed: the nearest-rank definition. 0 when empty. */
uint64_t hist_percentile(const struct histogram *h, double percentile);

double hist_mean(const struct histogram *h);
double hist_stdev(const struct histogram *h);

/* Return the share, 0 to 1, of values within `distance` of the mean. */
double hist_share_within(const struct histogram *h, double distance);

/* Cell of a value, and the lowest and highest value that share a cell. */
uint32_t hist_cell_of(uint64_t value_us);
uint64_t hist_cell_low(uint32_t cell);
uint64_t hist_cell_high(uint32_t cell);

/* Return the histogram as HdrHistogram "V2 compressed", base64, NUL-terminated; NULL when memory is out.
 * The deflate stream consists of stored blocks, so that no compression library is needed. The caller frees. */
char *hist_encode(const struct histogram *h);

#endif
