/* Read JSON (RFC 8259) into a tree: strict, bounded in depth and size, whole or not at all. */
#ifndef AEFM_MESH_JSON_READER_H
#define AEFM_MESH_JSON_READER_H

#include <stdbool.h>
#include <stddef.h>

#define JSON_DEPTH_MAX 64
#define JSON_NUMBER_MAX 64 /* characters */

enum json_kind { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_value {
    enum json_kind kind;
    const char *name; /* of an object's member; NULL otherwise */
    const char *text; /* of a string, decoded; of a number, as it was written. NUL-terminated */
    double number;
    struct json_value *first, *next; /* items or members in order */
    size_t count;
    size_t at;   /* offset in the source */
    bool looked; /* for readers that refuse what nobody looked at */
};

struct json_document {
    struct json_value *root;
    struct json_block *memory;
    size_t wrong_at; /* offset of what was wrong */
};

/* Read `len` bytes; where that is 0, `text` may be NULL. Return NULL, or what was expected (static text) at
 * document->wrong_at. Nothing of `text` is kept. Either way json_document_free() is due. Strings are UTF-8 without NUL; of
 * members with one name, the last counts. */
const char *json_read(const char *text, size_t len, struct json_document *document);
void json_document_free(struct json_document *document);

/* Return the member of that name, NULL where there is none or `object` is not one; it has been looked at then. */
struct json_value *json_member(const struct json_value *object, const char *name);

#endif
