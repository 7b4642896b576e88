#include "target.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"

#define PROBE_MS_MAX 60000u

static void put_authority(const struct url *url, char *text, size_t size) {
    snprintf(text, size, strchr(url->host, ':') ? "[%s]:%s" : "%s:%s", url->host, url->port);
}

static int find(const struct options *o, const struct url *url, bool all, struct addresses *to, char *error,
                size_t error_size) {
    uint64_t timeout_ms = o->timeout_ns / NS_PER_MS;
    bool dry = o->action == ACTION_CHECK;
    char authority[URL_HOST_MAX + 16];
    const char *wrong = net_resolve(dry ? "127.0.0.1" : url->host, url->port,
                                    (int)(timeout_ms < PROBE_MS_MAX ? timeout_ms : PROBE_MS_MAX), all, to);
    if (!wrong) return 0;
    put_authority(url, authority, sizeof authority);
    snprintf(error, error_size, "%s: %s", authority, wrong);
    return -1;
}

int target_find(const struct options *o, struct addresses *to, char *error, size_t error_size) {
    if (o->target_count == 0) return find(o, &o->url, false, to, error, error_size);
    for (size_t i = 0; i < o->target_count; i++) {
        const struct target *target = &o->targets[i];
        if (target->unix_path) net_append_unix(target->unix_path, to);
        else if (find(o, &target->url, true, to, error, error_size) != 0) return -1;
    }
    return 0;
}

void target_text(const struct options *o, char *text, size_t size) {
    const struct target *first = o->target_count ? &o->targets[0] : NULL;
    if (first && first->unix_path) snprintf(text, size, "unix:%s", first->unix_path);
    else put_authority(first ? &first->url : &o->url, text, size);
}
