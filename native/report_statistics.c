/* How far the figures can be trusted, as JSON: percentiles with their intervals, limits, self-tests. */
#include "json.h"
#include "report.h"
#include "sample.h"

static void put_us(struct json *j, const char *name, int64_t value) {
    if (value == SAMPLE_NONE) json_null(j, name);
    else json_int(j, name, value);
}

static void put_estimate(struct json *j, const struct estimate *e) {
    json_open(j, NULL, '{');
    json_real(j, "percentile", e->percentile, 3);
    put_us(j, "value_us", e->value_us);
    put_us(j, "value_high_us", e->value_high_us);
    put_us(j, "low_us", e->low_us);
    put_us(j, "high_us", e->high_us);
    json_real(j, "n_eff", e->n_eff, 1);
    json_close(j, '}');
}

static void put_limits(struct json *j, const struct report *r, const struct sample *s) {
    json_open(j, "limits", '[');
    for (size_t i = 0; i < r->options->limit_count; i++) {
        struct exceedance e = sample_limit(s, r->options->limits_us[i]);
        json_open(j, NULL, '{');
        json_uint(j, "limit_us", e.limit_us);
        json_uint(j, "n", s->count);
        json_uint(j, "above", e.above);
        json_uint(j, "undecided", e.undecided);
        json_real(j, "n_eff", e.n_eff, 1);
        json_close(j, '}');
    }
    json_close(j, ']');
}

void put_percentiles(struct json *j, const struct report *r, uint32_t tag) {
    static const double shown[] = {50, 90, 95, 99, 99.9};
    struct sample s = sample_take(r->records, r->record_count, tag);
    json_open(j, "percentiles", '{');
    json_uint(j, "n", s.count);
    json_uint(j, "lower_bounds", s.lower_bounds);
    json_uint(j, "recorded", r->record_count);
    json_real(j, "confidence", SAMPLE_CONFIDENCE, 3);
    json_open(j, "values", '[');
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        struct estimate e = sample_percentile(&s, shown[i]);
        put_estimate(j, &e);
    }
    json_close(j, ']');
    json_close(j, '}');
    put_limits(j, r, &s);
    sample_free(&s);
}

struct estimate report_precision(const struct report *r) {
    struct sample s = sample_take(r->records, r->record_count, SAMPLE_ALL_TAGS);
    struct estimate e = sample_percentile(&s, r->options->precision.percentile);
    sample_free(&s);
    return e;
}

void put_precision(struct json *j, const struct report *r) {
    const struct precision_rule *asked = &r->options->precision;
    if (asked->percentile == 0) {
        json_null(j, "precision");
        return;
    }
    struct estimate e = report_precision(r);
    json_open(j, "precision", '{');
    json_real(j, "percentile", asked->percentile, 3);
    json_real(j, "asked", asked->share, 6);
    json_real(j, "width", estimate_width(&e), 6);
    json_bool(j, "reached", r->ending == ENDED_BY_PRECISION);
    json_close(j, '}');
}

void put_abort(struct json *j, const struct report *r) {
    const struct abort_rule *rule = &r->options->abort_on;
    if (rule->over_ns == 0) {
        json_null(j, "abort");
        return;
    }
    json_open(j, "abort", '{');
    json_real(j, "error_rate_limit", rule->share, 6);
    json_uint(j, "over_ns", rule->over_ns);
    json_real(j, "error_rate", r->abort_error_rate, 6);
    json_bool(j, "aborted", r->ending == ENDED_BY_ABORT);
    json_close(j, '}');
}

static void put_arrivals(struct json *j, const struct report *r) {
    const struct schedule *s = &r->options->schedule;
    const struct arrivals_test *t = &r->check.arrivals;
    json_open(j, "arrivals", '{');
    json_text(j, "distribution", distribution_name(r->options->distribution));
    json_open(j, "schedule", '[');
    for (size_t i = 0; i < s->count; i++) {
        json_open(j, NULL, '{');
        json_real(j, "from_rps", s->phases[i].from_rps, 6);
        json_real(j, "to_rps", s->phases[i].to_rps, 6);
        json_uint(j, "duration_ns", s->phases[i].duration_ns);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_uint(j, "gaps", t->gaps);
    json_real(j, "cv", t->cv, 4);
    json_real(j, "cv_asked", t->cv_asked, 4);
    json_real(j, "anderson_darling", t->anderson_darling, 3);
    json_real(j, "distance", t->distance, 5);
    json_close(j, '}');
}

static void put_trend(struct json *j, const struct trend *t) {
    json_open(j, "trend", '{');
    json_uint(j, "part_ns", t->part_ns);
    json_open(j, "medians_us", '[');
    for (int i = 0; i < TREND_PARTS && t->part_ns; i++) put_us(j, NULL, t->medians_us[i]);
    json_close(j, ']');
    if (t->known) {
        json_bool(j, "stationary", t->stationary);
        json_real(j, "delta", t->delta, 4);
        json_real(j, "change", t->change, 4);
    } else {
        json_null(j, "stationary");
        json_null(j, "delta");
        json_null(j, "change");
    }
    if (t->known && t->settles) json_uint(j, "warmup_missing_ns", t->warmup_missing_ns);
    else json_null(j, "warmup_missing_ns");
    json_close(j, '}');
}

void put_self_tests(struct json *j, const struct report *r) {
    put_arrivals(j, r);
    put_trend(j, &r->check.trend);
    json_open(j, "self_check", '{');
    json_bool(j, "ok", r->check.ok);
    json_open(j, "checks", '[');
    for (size_t i = 0; i < r->check.count; i++) {
        const struct check *c = &r->check.checks[i];
        json_open(j, NULL, '{');
        json_text(j, "name", c->name);
        json_bool(j, "ok", c->ok);
        json_bool(j, "warning", c->warning);
        json_real(j, "value", c->value, 4);
        json_real(j, "limit", c->limit, 4);
        json_text(j, "unit", c->unit);
        json_text(j, "message", c->message);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_close(j, '}');
}
