/* ULIDs: 48 bits of milliseconds and 80 random bits, in Crockford's base 32. Within one millisecond (or when the wall
 * clock steps back) the last value is incremented, so ids of one process always sort in the order they were made. */
#include "common/id.h"

#include <pthread.h>
#include <sodium.h>
#include <stdint.h>
#include <string.h>

#include "common/clock.h"
#include "common/text.h"

enum { ULID_LENGTH = 26, ULID_BYTES = 16, TIME_BYTES = 6, PREFIX_MAX = 4 };

static const char ALPHABET[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* The last ULID, big-endian, guarded by `lock`. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char last[ULID_BYTES];

static int64_t time_of(const unsigned char ulid[ULID_BYTES]) {
    int64_t time = 0;
    for (int i = 0; i < TIME_BYTES; i++) {
        time = time << 8 | ulid[i];
    }
    return time;
}

/* Adds one with carry; a carry out of the random part moves on to the next millisecond, which still sorts after. */
static void increment(unsigned char ulid[ULID_BYTES]) {
    for (int i = ULID_BYTES - 1; i >= 0; i--) {
        ulid[i] = (unsigned char)(ulid[i] + 1);
        if (ulid[i] != 0) {
            return;
        }
    }
}

static void next_ulid(unsigned char out[ULID_BYTES]) {
    int64_t now = clock_wall_ms();
    (void)pthread_mutex_lock(&lock);
    if (now > time_of(last)) {
        for (int i = TIME_BYTES - 1; i >= 0; i--) {
            last[i] = (unsigned char)(now & 0xff);
            now >>= 8;
        }
        randombytes_buf(last + TIME_BYTES, ULID_BYTES - TIME_BYTES);
    } else {
        increment(last);
    }
    memcpy(out, last, ULID_BYTES);
    (void)pthread_mutex_unlock(&lock);
}

void id_make(const char *prefix, char out[ID_SIZE]) {
    unsigned char ulid[ULID_BYTES];
    char text[ULID_LENGTH + 1];
    next_ulid(ulid);
    /* 130 bits of text for 128 bits of value: the first character carries three bits only. */
    uint64_t bits = 0;
    unsigned count = 2;
    char *at = text;
    for (int i = 0; i < ULID_BYTES; i++) {
        bits = bits << 8 | ulid[i];
        for (count += 8; count >= 5; count -= 5) {
            *at++ = ALPHABET[bits >> (count - 5) & 31U];
        }
    }
    *at = '\0';
    struct text whole;
    char start[PREFIX_MAX + 1];
    text_begin(&whole, start, sizeof start);
    text_add(&whole, prefix);
    text_begin(&whole, out, ID_SIZE);
    text_add(&whole, start);
    text_add(&whole, "_");
    text_add(&whole, text);
}

bool id_is_valid(const char *text, const char *prefix) {
    size_t prefix_length = strlen(prefix);
    if (text == NULL || strncmp(text, prefix, prefix_length) != 0 || text[prefix_length] != '_') {
        return false;
    }
    const char *ulid = text + prefix_length + 1;
    if (strlen(ulid) != ULID_LENGTH || ulid[0] > '7') {
        return false; /* above '7' the value would not fit 128 bits */
    }
    return strspn(ulid, ALPHABET) == ULID_LENGTH;
}
