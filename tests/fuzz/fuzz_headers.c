/* Header fields and request targets that are parsed by us: the first byte chooses, the rest is the text. */
#include <string.h>

#include "common/mem.h"
#include "server/api/content_digest.h"
#include "server/http/http_framing.h"
#include "server/http/http_range.h"
#include "server/http/http_uri.h"
#include "tests/fuzz/fuzz.h"

enum { FIELDS = 8 };

/* Lines "name:value" as the parser would have cut them: each end is overwritten by NUL. */
static void check_framing(char *text, size_t length) {
    struct http_field fields[FIELDS];
    struct error error = {0};
    size_t count = 0;
    for (char *at = text; at < text + length && count < FIELDS;) {
        char *end = memchr(at, '\n', (size_t)(text + length - at));
        char *colon = memchr(at, ':', (size_t)((end != NULL ? end : text + length) - at));
        if (end == NULL || colon == NULL) {
            break;
        }
        *colon = '\0';
        *end = '\0';
        fields[count++] = (struct http_field){.name = at,
                                              .value = colon + 1,
                                              .name_length = (size_t)(colon - at),
                                              .value_length = (size_t)(end - colon - 1)};
        at = end + 1;
    }
    (void)http_framing_check(fields, count, true, &error);
    (void)http_framing_check(fields, count, false, &error);
}

static void check_range(const char *text) {
    uint64_t first = 0, length = 0;
    const uint64_t size = 1000;
    if (http_range_parse(text, size, &first, &length) == HTTP_RANGE_PART &&
        (length == 0 || first >= size || length > size - first)) {
        __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct http_uri uri;
    struct error error = {0};
    char digest[DIGEST_HEX_SIZE];
    if (length == 0) {
        return 0;
    }
    char *text = mem_calloc(length, 1); /* the first byte's room is the NUL's */
    if (text == NULL) {
        return 0;
    }
    memcpy(text, bytes + 1, length - 1);
    switch (bytes[0] % 5) {
    case 0:
        check_range(text);
        break;
    case 1:
        (void)http_etag_matches(text, "\"abc\"");
        (void)http_if_match_holds(text, "\"abc\"");
        (void)http_if_range_holds(text, "\"abc\"");
        break;
    case 2:
        if (http_uri_parse(text, &uri, &error) == STATUS_OK &&
            (uri.path[0] != '/' || strlen(uri.path) >= HTTP_PATH_SIZE)) {
            __builtin_trap();
        }
        break;
    case 3:
        (void)content_digest_read(text, digest, &error);
        break;
    default:
        check_framing(text, length - 1);
        break;
    }
    mem_free(text);
    return 0;
}
