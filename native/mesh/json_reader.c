#include "mesh/json_reader.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"

#define BLOCK_BYTES 16384u

struct json_block {
    struct json_block *next;
    size_t used, size;
    char data[];
};

struct reader {
    const char *at, *end, *start;
    struct json_document *document;
    int depth;
    const char *wrong;
};

static void *take(struct json_document *document, size_t bytes) {
    struct json_block *block = document->memory;
    bytes = (bytes + 15) & ~(size_t)15;
    if (!block || block->size - block->used < bytes) {
        size_t size = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        block = must_alloc(1, sizeof *block + size + 16);
        block->size = size;
        block->used = (16 - (uintptr_t)block->data % 16) % 16;
        block->size += block->used;
        block->next = document->memory;
        document->memory = block;
    }
    void *memory = block->data + block->used;
    block->used += bytes;
    return memory;
}

void json_document_free(struct json_document *document) {
    for (struct json_block *block = document->memory, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    *document = (struct json_document){0};
}

static bool fail(struct reader *r, const char *what) {
    if (!r->wrong) {
        r->wrong = what;
        r->document->wrong_at = (size_t)(r->at - r->start);
    }
    return false;
}

static void skip_space(struct reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')) r->at++;
}

static bool take_word(struct reader *r, const char *word) {
    size_t len = strlen(word);
    if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len) != 0) return fail(r, "expected a value");
    r->at += len;
    return true;
}

static bool digits(struct reader *r) {
    const char *first = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return r->at > first ? true : fail(r, "expected a digit");
}

static bool read_number(struct reader *r, struct json_value *value) {
    const char *first = r->at;
    if (*r->at == '-') r->at++;
    if (r->at < r->end && *r->at == '0') r->at++;
    else if (!digits(r)) return false;
    if (r->at < r->end && *r->at == '.') {
        r->at++;
        if (!digits(r)) return false;
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-')) r->at++;
        if (!digits(r)) return false;
    }
    size_t len = (size_t)(r->at - first);
    if (len > JSON_NUMBER_MAX) return fail(r, "expected a number of at most 64 characters");
    char *text = take(r->document, len + 1);
    memcpy(text, first, len);
    text[len] = '\0';
    value->kind = JSON_NUMBER;
    value->text = text;
    value->number = strtod(text, NULL);
    return value->number - value->number == 0 ? true : fail(r, "expected a finite number");
}

/* Four hexadecimal digits, or -1. */
static int take_hex(struct reader *r) {
    int value = 0;
    if (r->end - r->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = *r->at++;
        int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

static char *put_utf8(char *to, uint32_t code) {
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        if (code < 0x10000) {
            *to++ = (char)(0xe0 | code >> 12);
        } else {
            *to++ = (char)(0xf0 | code >> 18);
            *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        }
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

static bool read_unicode(struct reader *r, char **to) {
    int high = take_hex(r), low = 0;
    if (high <= 0 || (high >= 0xdc00 && high < 0xe000)) return fail(r, "expected \\uXXXX, not of NUL or half a pair");
    uint32_t code = (uint32_t)high;
    if (high >= 0xd800 && high < 0xdc00) {
        if (r->end - r->at < 6 || r->at[0] != '\\' || r->at[1] != 'u') return fail(r, "expected the pair's second half");
        r->at += 2;
        low = take_hex(r);
        if (low < 0xdc00 || low >= 0xe000) return fail(r, "expected the pair's second half");
        code = 0x10000 + (((uint32_t)high - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
    }
    *to = put_utf8(*to, code);
    return true;
}

static bool read_escape(struct reader *r, char **to) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (r->at == r->end) return fail(r, "expected an escape");
    char c = *r->at++;
    if (c == 'u') return read_unicode(r, to);
    const char *found = c ? strchr(names, c) : NULL;
    if (!found) return fail(r, "expected an escape of JSON");
    *(*to)++ = values[found - names];
    return true;
}

/* The length of the UTF-8 sequence at `c`, 0 where it is none. */
static size_t utf8_length(const unsigned char *c, const unsigned char *end) {
    size_t n = *c < 0x80 ? 1 : *c >= 0xc2 && *c < 0xe0 ? 2 : (*c & 0xf0) == 0xe0 ? 3 : *c >= 0xf0 && *c < 0xf5 ? 4 : 0;
    if (n == 0 || (size_t)(end - c) < n) return 0;
    for (size_t i = 1; i < n; i++) {
        if ((c[i] & 0xc0) != 0x80) return 0;
    }
    bool overlong = (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xf0 && c[1] < 0x90);
    bool outside = (c[0] == 0xed && c[1] >= 0xa0) || (c[0] == 0xf4 && c[1] >= 0x90);
    return overlong || outside ? 0 : n;
}

static const char *read_text(struct reader *r) {
    if (r->at == r->end || *r->at != '"') return fail(r, "expected a string"), NULL;
    const char *close = ++r->at;
    while (close < r->end && *close != '"') close += *close == '\\' ? 2 : 1;
    if (close >= r->end) return fail(r, "expected the string's end"), NULL;
    char *text = take(r->document, (size_t)(close - r->at) + 1), *to = text; /* decoded, it never grows */
    while (r->at < close) {
        size_t n = utf8_length((const unsigned char *)r->at, (const unsigned char *)r->end);
        if (n == 0 || (unsigned char)*r->at < 0x20) return fail(r, "expected UTF-8 without control characters"), NULL;
        if (*r->at == '\\') {
            r->at++;
            if (!read_escape(r, &to)) return NULL;
            continue;
        }
        memcpy(to, r->at, n);
        to += n;
        r->at += n;
    }
    *to = '\0';
    r->at++;
    return text;
}

static struct json_value *read_value(struct reader *r, const char *name);

/* Items up to the bracket that closes; members where `named`. */
static bool read_items(struct reader *r, struct json_value *parent, bool named, char close) {
    struct json_value **link = &parent->first;
    if (++r->depth > JSON_DEPTH_MAX) return fail(r, "expected at most 64 levels");
    r->at++;
    skip_space(r);
    while (r->at < r->end && (*r->at != close || parent->count)) {
        const char *name = NULL;
        if (named) {
            if (!(name = read_text(r))) return false;
            skip_space(r);
            if (r->at == r->end || *r->at != ':') return fail(r, "expected ':'");
            r->at++;
        }
        if (!(*link = read_value(r, name))) return false;
        link = &(*link)->next;
        parent->count++;
        skip_space(r);
        if (r->at < r->end && *r->at == close) break;
        if (r->at == r->end || *r->at != ',') return fail(r, "expected ',' or the end of the list");
        r->at++;
        skip_space(r);
    }
    if (r->at == r->end) return fail(r, "expected the end of the list");
    r->at++;
    r->depth--;
    return true;
}

static struct json_value *read_value(struct reader *r, const char *name) {
    skip_space(r);
    if (r->at == r->end) return fail(r, "expected a value"), NULL;
    struct json_value *value = take(r->document, sizeof *value);
    *value = (struct json_value){.name = name, .at = (size_t)(r->at - r->start)};
    bool ok = false;
    switch (*r->at) {
    case '{':
        value->kind = JSON_OBJECT;
        ok = read_items(r, value, true, '}');
        break;
    case '[':
        value->kind = JSON_ARRAY;
        ok = read_items(r, value, false, ']');
        break;
    case '"':
        value->kind = JSON_STRING;
        ok = (value->text = read_text(r)) != NULL;
        break;
    case 't':
        value->kind = JSON_TRUE;
        ok = take_word(r, "true");
        break;
    case 'f':
        value->kind = JSON_FALSE;
        ok = take_word(r, "false");
        break;
    case 'n':
        ok = take_word(r, "null");
        break;
    default:
        ok = *r->at == '-' || (*r->at >= '0' && *r->at <= '9') ? read_number(r, value) : fail(r, "expected a value");
    }
    return ok ? value : NULL;
}

const char *json_read(const char *text, size_t len, struct json_document *document) {
    if (len == 0) text = "";
    struct reader r = {.at = text, .start = text, .end = text + len, .document = document};
    *document = (struct json_document){0};
    document->root = read_value(&r, NULL);
    if (!document->root) return r.wrong;
    skip_space(&r);
    if (r.at < r.end) fail(&r, "expected the end of the document");
    return r.wrong;
}

struct json_value *json_member(const struct json_value *object, const char *name) {
    struct json_value *found = NULL;
    if (!object || object->kind != JSON_OBJECT) return NULL;
    for (struct json_value *member = object->first; member; member = member->next) {
        if (strcmp(member->name, name) != 0) continue;
        member->looked = true;
        found = member;
    }
    return found;
}
