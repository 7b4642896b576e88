#include "requests_file.h"

#include <endian.h>

#include "json.h"

/* As `fields` of the header describes it: little-endian, nothing between. */
struct __attribute__((packed)) row {
    int64_t intended_ns, sent_ns, end_ns;
    uint16_t tag;
    uint8_t outcome, waited;
};

static void put_fields(struct json *j) {
    static const char *const fields[][2] = {{"intended_ns", "<i8"}, {"sent_ns", "<i8"}, {"end_ns", "<i8"},
                                            {"tag", "<u2"}, {"outcome", "|u1"}, {"waited", "|u1"}};
    json_open(j, "fields", '[');
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        json_open(j, NULL, '[');
        json_text(j, NULL, fields[i][0]);
        json_text(j, NULL, fields[i][1]);
        json_close(j, ']');
    }
    json_close(j, ']');
}

static void put_names(struct json *j, const struct report *r) {
    json_open(j, "outcomes", '[');
    for (int o = 0; o < OUTCOMES; o++) json_text(j, NULL, outcome_name((enum outcome)o));
    json_close(j, ']');
    json_open(j, "tags", '[');
    for (uint32_t i = 0; i <= r->tags.count; i++) json_text(j, NULL, tag_name(&r->tags, i));
    json_close(j, ']');
}

static void put_header(const struct report *r, FILE *to) {
    struct json json = {.to = to}, *j = &json;
    json_open(j, NULL, '{');
    json_text(j, "format", "aefm-wrk requests");
    json_uint(j, "version", REQUESTS_FORMAT);
    json_text(j, "clock", "CLOCK_MONOTONIC");
    json_text(j, "unit", "ns");
    json_open(j, "window", '{');
    json_int(j, "start_wall_ns", report_start_wall_ns(r));
    json_uint(j, "start_mono_ns", r->window_start_ns);
    json_uint(j, "duration_ns", r->duration_ns);
    json_close(j, '}');
    json_uint(j, "offered", r->total.offered);
    json_uint(j, "records", r->record_count);
    json_uint(j, "record_bytes", sizeof(struct row));
    put_fields(j);
    put_names(j, r);
    json_close(j, '}');
    fputc('\n', to);
}

static struct row row_of(const struct record *r) {
    bool was_sent = r->outcome < OUTCOME_CONNECT_ERROR;
    int64_t due = (int64_t)r->due_ns, sent = was_sent ? due + (int64_t)r->late_ns : -1;
    return (struct row){.intended_ns = (int64_t)htole64((uint64_t)due), .sent_ns = (int64_t)htole64((uint64_t)sent),
                        .end_ns = (int64_t)htole64((uint64_t)due + r->latency_ns), .tag = htole16(r->tag & 2047),
                        .outcome = r->outcome & 15, .waited = r->waited};
}

int requests_write(const struct report *r, FILE *to) {
    put_header(r, to);
    for (size_t i = 0; i < r->record_count; i++) {
        struct row row = row_of(&r->records[i]);
        if (fwrite(&row, sizeof row, 1, to) != 1) return -1;
    }
    return fflush(to) == 0 && !ferror(to) ? 0 : -1;
}
