/* A tiny harness: CHECK tells file, line and both values, and the program exits 1 if any failed. */
#ifndef AEFM_CHECK_H
#define AEFM_CHECK_H

#include <math.h>
#include <stdio.h>
#include <string.h>

static int check_failures;

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);     \
            check_failures++;                                                   \
        }                                                                       \
    } while (0)

#define CHECK_INT(expected, actual)                                                                            \
    do {                                                                                                       \
        long long check_e = (long long)(expected), check_a = (long long)(actual);                              \
        if (check_e != check_a) {                                                                              \
            fprintf(stderr, "%s:%d: %s: expected %lld, got %lld\n", __FILE__, __LINE__, #actual, check_e, check_a); \
            check_failures++;                                                                                  \
        }                                                                                                      \
    } while (0)

#define CHECK_TEXT(expected, actual)                                                                           \
    do {                                                                                                       \
        const char *check_e = (expected), *check_a = (actual);                                                 \
        if (!check_a || strcmp(check_e, check_a) != 0) {                                                       \
            fprintf(stderr, "%s:%d: %s: expected \"%s\", got \"%s\"\n", __FILE__, __LINE__, #actual, check_e,  \
                    check_a ? check_a : "(null)");                                                             \
            check_failures++;                                                                                  \
        }                                                                                                      \
    } while (0)

#define CHECK_NEAR(expected, actual, tolerance) CHECK(fabs((double)(expected) - (double)(actual)) <= (tolerance))

static inline int check_result(void) { return check_failures ? 1 : 0; }

#endif
