/* Base64 (RFC 4648, with padding). */
#ifndef AEFM_BASE64_H
#define AEFM_BASE64_H

#include <stddef.h>
#include <stdint.h>

/* Return `len` bytes as NUL-terminated text, or NULL when memory is out. The caller frees. */
char *base64_encode(const uint8_t *data, size_t len);

#endif
