/* How command lines write quantities. Each returns false when the text is no such quantity. */
#ifndef AEFM_QUANTITY_H
#define AEFM_QUANTITY_H

#include <stdbool.h>
#include <stdint.h>

/* "10", "500ms", "2s", "1.5m", "1h" (a bare number: seconds). */
bool quantity_time(const char *text, uint64_t *ns);

/* "0.5", "20k", "1M": a finite number >= 0. */
bool quantity_number(const char *text, double *number);

/* "5%" or "0.05": a share. */
bool quantity_share(const char *text, double *share);

bool quantity_whole(const char *text, uint64_t *number);

#endif
