/* Header fields and request targets that are parsed by us: the first byte chooses, the rest is the text. */
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/parse.h"
#include "server/api/api_internal.h"
#include "server/api/content_digest.h"
#include "server/api/upload_checksum.h"
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

/* Upload-Length and Upload-Offset: what is taken must be what was written, but for zeros in front. */
static void check_number(const char *text) {
    char again[32];
    uint64_t value = 0;
    if (!parse_u64(text, INT64_MAX, &value)) {
        return;
    }
    (void)snprintf(again, sizeof again, "%llu", (unsigned long long)value);
    text += strspn(text, "0");
    if (value > INT64_MAX || strcmp(again, *text != '\0' ? text : "0") != 0) {
        __builtin_trap();
    }
}

/* The value of a key, into rooms of exactly the size that is said. */
static void check_metadata(const char *text) {
    static const size_t sizes[] = {1, 16, 300};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct error error = {0};
        char *room = mem_alloc(sizes[i], 1);
        if (room == NULL) {
            return;
        }
        enum status status = upload_metadata_get(text, "kind", room, sizes[i], &error);
        if (strnlen(room, sizes[i]) == sizes[i] || (status != STATUS_OK && room[0] != '\0')) {
            __builtin_trap();
        }
        mem_free(room);
    }
}

static void check_checksum(const char *text) {
    struct upload_checksum *checksum = NULL;
    struct error error = {0};
    if (upload_checksum_new(text, &checksum, &error) == STATUS_OK) {
        upload_checksum_update(checksum, text, strlen(text));
        (void)upload_checksum_finish(checksum, &error);
    } else if (error.status == STATUS_OK) {
        __builtin_trap();
    }
    upload_checksum_free(checksum);
}

static void check_key(const char *text) {
    struct error error = {0};
    if (api_idempotency_key_check(text, &error) == STATUS_OK &&
        (text[0] == '\0' || strlen(text) >= STORE_IDEMPOTENCY_KEY_SIZE || strpbrk(text, " \t\r\n\x7f") != NULL)) {
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
    switch (bytes[0]) {
    case 'r':
        check_range(text);
        break;
    case 'e':
        (void)http_etag_matches(text, "\"abc\"");
        (void)http_if_match_holds(text, "\"abc\"");
        (void)http_if_range_holds(text, "\"abc\"");
        break;
    case 'u':
        if (http_uri_parse(text, &uri, &error) == STATUS_OK &&
            (uri.path[0] != '/' || strlen(uri.path) >= HTTP_PATH_SIZE)) {
            __builtin_trap();
        }
        break;
    case 'd':
        (void)content_digest_read(text, digest, &error);
        break;
    case 'f':
        check_framing(text, length - 1);
        break;
    case 'n':
        check_number(text);
        break;
    case 'm':
        check_metadata(text);
        break;
    case 'c':
        check_checksum(text);
        break;
    case 'k':
        check_key(text);
        break;
    default: /* nothing of ours */
        break;
    }
    mem_free(text);
    return 0;
}
