/* The target's URL: http[s]://host[:port][/path][?query]. Pure. */
#ifndef AEFM_URL_H
#define AEFM_URL_H

#include <stdbool.h>
#include <stddef.h>

#define URL_HOST_MAX 256

struct url {
    bool secure;             /* https */
    char host[URL_HOST_MAX]; /* without the brackets of an IPv6 address */
    char port[6];            /* "80" or "443" where the URL has none */
    bool has_port;
    char authority[URL_HOST_MAX + 10]; /* for Host: as the URL has it */
    const char *path;                  /* path and query within the text; "" where there is none */
    size_t path_len;
};

/* Parse `text`; `url` points into it. Return NULL, or what was expected (static text). */
const char *url_parse(const char *text, struct url *url);

/* Parse "host:port" or "[address]:port" into host and port. Return NULL, or what was expected (static text). */
const char *url_parse_authority(const char *text, size_t len, struct url *url);

#endif
