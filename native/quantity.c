#include "quantity.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A decimal number, no sign, no hexadecimal, no "inf". */
static bool starts_number(const char *text) {
    return ((*text >= '0' && *text <= '9') || *text == '.') && !strpbrk(text, "xX");
}

bool quantity_number(const char *text, double *number) {
    char *end;
    if (!starts_number(text)) return false;
    *number = strtod(text, &end);
    if (end == text) return false;
    if (*end && !end[1] && strchr("kKmMgG", *end)) {
        *number *= *end == 'k' || *end == 'K' ? 1e3 : *end == 'm' || *end == 'M' ? 1e6 : 1e9;
        end++;
    }
    return *end == '\0' && isfinite(*number);
}

bool quantity_time(const char *text, uint64_t *ns) {
    static const struct { const char *unit; double factor; } units[] = {
        {"", 1e9}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
    char *end;
    if (!starts_number(text)) return false;
    double value = strtod(text, &end);
    for (size_t i = 0; end != text && i < sizeof units / sizeof *units; i++) {
        if (strcmp(end, units[i].unit) != 0 || !(value * units[i].factor <= 1e18)) continue;
        *ns = (uint64_t)nearbyint(value * units[i].factor);
        return true;
    }
    return false;
}

bool quantity_share(const char *text, double *share) {
    char *end;
    if (!starts_number(text)) return false;
    *share = strtod(text, &end);
    if (end == text) return false;
    if (*end == '%') {
        *share /= 100.0;
        end++;
    }
    return *end == '\0' && isfinite(*share);
}

bool quantity_whole(const char *text, uint64_t *number) {
    char *end;
    if (*text < '0' || *text > '9') return false;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    *number = value;
    return *end == '\0' && errno == 0;
}
