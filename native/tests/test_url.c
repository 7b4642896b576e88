/* URLs: host, port, IPv6, path with query; everything else is refused. */
#include <strings.h>

#include "check.h"
#include "url.h"

static void good_urls(void) {
    static const struct { const char *text, *host, *port, *authority, *path; } table[] = {
        {"http://h", "h", "80", "h", ""},
        {"http://h:81/p?q=1#frag", "h", "81", "h:81", "/p?q=1"},
        {"HTTP://127.0.0.1:5000/", "127.0.0.1", "5000", "127.0.0.1:5000", "/"},
        {"http://[::1]:8080/a", "::1", "8080", "[::1]:8080", "/a"},
        {"http://[::1]", "::1", "80", "[::1]", ""},
        {"http://h?x", "h", "80", "h", "?x"},
        {"https://h", "h", "443", "h", ""},
        {"HTTPS://h:8443/p", "h", "8443", "h:8443", "/p"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct url url;
        char path[64];
        CHECK(url_parse(table[i].text, &url) == NULL);
        CHECK_INT(strncasecmp(table[i].text, "https:", 6) == 0, url.secure);
        CHECK_TEXT(table[i].host, url.host);
        CHECK_TEXT(table[i].port, url.port);
        CHECK_TEXT(table[i].authority, url.authority);
        snprintf(path, sizeof path, "%.*s", (int)url.path_len, url.path);
        CHECK_TEXT(table[i].path, path);
    }
}

static void bad_urls(void) {
    static const char *const bad[] = {"", "h", "ftp://h", "httpss://h", "https://", "http://", "http:///p", "http://:80", "http://h:",
                                      "http://h:0", "http://h:65536", "http://h:8x", "http://u@h", "http://[::1",
                                      "http://[::1]x", "http://h/a b", "http://h/\r\nX: y", "http://[]:1", "http://h:-1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct url url;
        if (url_parse(bad[i], &url)) continue;
        fprintf(stderr, "accepted: %s\n", bad[i]);
        check_failures++;
    }
}

int main(void) {
    good_urls();
    bad_urls();
    return check_result();
}
