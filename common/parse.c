/* Strict number parsing. strtoull() skips blanks and accepts "-1" as a large number, strtod() reads "nan", hex and the
 * locale's comma: each would let a wrong setting through, so the grammar is checked here first. */
#include "common/parse.h"

#include <locale.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Reads digits up to the first other character; false if there are none or the value does not fit. */
static bool read_digits(const char **text, uint64_t *value) {
    const char *at = *text;
    uint64_t sum = 0;
    if (!is_digit(*at)) {
        return false;
    }
    for (; is_digit(*at); at++) {
        if (__builtin_mul_overflow(sum, UINT64_C(10), &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(*at - '0'), &sum)) {
            return false;
        }
    }
    *text = at;
    *value = sum;
    return true;
}

bool parse_u64(const char *text, uint64_t max, uint64_t *value) {
    uint64_t number = 0;
    if (text == NULL || !read_digits(&text, &number) || *text != '\0' || number > max) {
        return false;
    }
    *value = number;
    return true;
}

bool parse_i64(const char *text, int64_t min, int64_t max, int64_t *value) {
    if (text == NULL) {
        return false;
    }
    bool negative = *text == '-';
    uint64_t magnitude = 0;
    if (!parse_u64(text + negative, (uint64_t)INT64_MAX + negative, &magnitude)) {
        return false;
    }
    int64_t number = 0;
    if (!negative) {
        number = (int64_t)magnitude;
    } else if (magnitude > 0) {
        number = -(int64_t)(magnitude - 1) - 1; /* reaches INT64_MIN without overflow */
    }
    if (number < min || number > max) {
        return false;
    }
    *value = number;
    return true;
}

static const char *skip_digits(const char *text) {
    while (is_digit(*text)) {
        text++;
    }
    return text;
}

/* -?(digits[.digits] | .digits)([eE][+-]?digits)? */
static bool is_decimal(const char *text) {
    const char *at = text + (*text == '-');
    const char *end = skip_digits(at);
    size_t digits = (size_t)(end - at);
    if (*end == '.') {
        at = end + 1;
        end = skip_digits(at);
        digits += (size_t)(end - at);
    }
    if (digits == 0) {
        return false;
    }
    if (*end == 'e' || *end == 'E') {
        at = end + 1;
        at += *at == '+' || *at == '-';
        end = skip_digits(at);
        if (end == at) {
            return false;
        }
    }
    return *end == '\0';
}

bool parse_double(const char *text, double min, double max, double *value) {
    if (text == NULL || !is_decimal(text)) {
        return false;
    }
    /* The "C" locale object is static in the C library: this costs nothing and cannot fail for want of memory. */
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c_locale == (locale_t)0) {
        return false;
    }
    double number = strtod_l(text, NULL, c_locale);
    freelocale(c_locale);
    if (!isfinite(number) || number < min || number > max) {
        return false;
    }
    *value = number;
    return true;
}

bool parse_bool(const char *text, bool *value) {
    static const struct {
        const char *word;
        bool value;
    } WORDS[] = {{"true", true}, {"false", false}, {"1", true}, {"0", false}, {"on", true}, {"off", false}};
    for (size_t i = 0; text != NULL && i < sizeof WORDS / sizeof WORDS[0]; i++) {
        if (strcmp(text, WORDS[i].word) == 0) {
            *value = WORDS[i].value;
            return true;
        }
    }
    return false;
}

bool parse_bytes(const char *text, uint64_t max, uint64_t *value) {
    uint64_t number = 0;
    if (text == NULL || !read_digits(&text, &number)) {
        return false;
    }
    uint64_t unit = 1;
    switch (*text) {
    case '\0':
        break;
    case 'k':
    case 'K':
        unit = UINT64_C(1) << 10;
        break;
    case 'M':
        unit = UINT64_C(1) << 20;
        break;
    case 'G':
        unit = UINT64_C(1) << 30;
        break;
    default:
        return false;
    }
    if ((unit > 1 && text[1] != '\0') || __builtin_mul_overflow(number, unit, &number) || number > max) {
        return false;
    }
    *value = number;
    return true;
}
