/* Quantities of the command line. */
#include "check.h"
#include "quantity.h"

#define MS 1000000ull
#define S (1000 * MS)

static void times_have_units(void) {
    static const struct { const char *text; uint64_t ns; } good[] = {
        {"10", 10 * S}, {"500ms", 500 * MS}, {"2s", 2 * S}, {"1m", 60 * S}, {"1h", 3600 * S}, {"1.5s", 1500 * MS},
        {"250us", 250000}, {"0", 0}, {".5", 500 * MS}};
    static const char *const bad[] = {"", "x", "s", "-1s", "1d", "1 s", "1ss", "0x10", "nan", "inf", "1e300h", "+1"};
    uint64_t ns;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CHECK(quantity_time(good[i].text, &ns));
        CHECK_INT(good[i].ns, ns);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK(!quantity_time(bad[i], &ns));
}

static void numbers_have_suffixes(void) {
    static const struct { const char *text; double value; } good[] = {
        {"0.5", 0.5}, {"200", 200}, {"20k", 20000}, {"1.5M", 1.5e6}, {"2K", 2000}, {"1G", 1e9}};
    static const char *const bad[] = {"", "x", "-1", "1kk", "1 k", "0x1", "nan", "inf", "1e999"};
    double value;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CHECK(quantity_number(good[i].text, &value));
        CHECK_NEAR(good[i].value, value, 1e-6);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK(!quantity_number(bad[i], &value));
}

static void shares_are_per_cent_or_plain(void) {
    double share;
    CHECK(quantity_share("5%", &share));
    CHECK_NEAR(0.05, share, 1e-12);
    CHECK(quantity_share("0.5", &share));
    CHECK_NEAR(0.5, share, 1e-12);
    CHECK(!quantity_share("5%%", &share));
    CHECK(!quantity_share("-1%", &share));
    CHECK(!quantity_share("%", &share));
}

int main(void) {
    times_have_units();
    numbers_have_suffixes();
    shares_are_per_cent_or_plain();
    return check_result();
}
