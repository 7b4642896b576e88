/* JSON is well-formed whatever goes in. */
#include <stdlib.h>

#include "check.h"
#include "json.h"

static void commas_escapes_and_numbers(void) {
    char *text = NULL;
    size_t len = 0;
    struct json j = {.to = open_memstream(&text, &len)};
    json_open(&j, NULL, '{');
    json_text(&j, "a\"b", "\\ \n \x7f \xc3\xa9 \xff \xe2\x82");
    json_open(&j, "list", '[');
    json_uint(&j, NULL, UINT64_MAX);
    json_int(&j, NULL, -5);
    json_open(&j, NULL, '{');
    json_close(&j, '}');
    json_close(&j, ']');
    json_real(&j, "x", 0.5, 3);
    json_real(&j, "nan", NAN, 3);
    json_bool(&j, "t", true);
    json_close(&j, '}');
    fclose(j.to);
    CHECK_TEXT("{\"a\\\"b\":\"\\\\ \\u000a \\u007f \xc3\xa9 \\ufffd \\ufffd\\ufffd\",\"list\":[18446744073709551615,-5,{}],"
               "\"x\":0.500,\"nan\":null,\"t\":true}", text);
    free(text);
}

int main(void) {
    commas_escapes_and_numbers();
    return check_result();
}
