#include "url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *take_port(const char *colon, size_t len, struct url *url) {
    if (len < 2 || len > 6 || strspn(colon + 1, "0123456789") < len - 1) return "expected a port of 1 to 65535";
    memcpy(url->port, colon + 1, len - 1);
    url->port[len - 1] = '\0';
    url->has_port = true;
    int port = atoi(url->port);
    return port >= 1 && port <= 65535 ? NULL : "expected a port of 1 to 65535";
}

const char *url_parse_authority(const char *authority, size_t len, struct url *url) {
    const char *host = authority, *end = authority + len, *host_end;
    if (len && *host == '[') {
        host_end = memchr(host, ']', len);
        if (!host_end) return "expected ']' after the IPv6 address";
        host++;
    } else {
        host_end = memchr(host, ':', len);
        if (!host_end) host_end = end;
    }
    if (host_end == host) return "expected a host name";
    if (host_end - host >= URL_HOST_MAX) return "expected a host name of at most 255 characters";
    memcpy(url->host, host, (size_t)(host_end - host));
    url->host[host_end - host] = '\0';
    const char *rest = *host_end == ']' && host_end < end ? host_end + 1 : host_end;
    if (rest == end) return NULL;
    return *rest == ':' ? take_port(rest, (size_t)(end - rest), url) : "expected ':port' or '/' after the host";
}

const char *url_parse(const char *text, struct url *url) {
    *url = (struct url){.port = "80"};
    url->secure = strncasecmp(text, "https://", 8) == 0;
    if (url->secure) memcpy(url->port, "443", 4);
    else if (strncasecmp(text, "http://", 7) != 0) return "expected http[s]://host[:port][/path]";
    const char *authority = text + (url->secure ? 8 : 7);
    size_t len = strcspn(authority, "/?#");
    if (memchr(authority, '@', len)) return "user names in URLs are not supported, use -H 'Authorization: ...'";
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c <= 0x20 || *c == 0x7f) return "expected no white space or control characters";
    }
    const char *wrong = url_parse_authority(authority, len, url);
    if (wrong) return wrong;
    snprintf(url->authority, sizeof url->authority, "%.*s", (int)len, authority);
    url->path = authority + len;
    url->path_len = strcspn(url->path, "#");
    return NULL;
}
