/* The log. A line is built in one bounded buffer and written with one write(2), alone or together with others: no allocation, no
 * lock, and lines of several threads and processes on one pipe do not mix. What does not fit is cut off. */
#include "common/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/text.h"

/* A line is below PIPE_BUF (4096 on Linux), up to which a write to a pipe is one piece. */
enum { LINE_MAX_BYTES = 4000, MESSAGE_MAX_BYTES = 3000, EVENT_MAX_BYTES = 64 };

static const char TAIL[] = "\"}\n";

static const char *const LEVEL_NAMES[] = {"error", "warn", "info", "debug"};

/* The one process-wide setting of the log, read by every thread. */
static _Atomic int current_level = LOG_INFO;

void log_set_level(enum log_level level) {
    atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void) {
    return (enum log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

/* Length of the valid UTF-8 sequence at `text`, 0 if there is none (RFC 3629: no overlong forms, no surrogates). */
static size_t utf8_length(const unsigned char *text) {
    static const struct {
        unsigned char first_low, first_high, second_low, second_high;
        size_t length;
    } FORMS[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof FORMS / sizeof FORMS[0]; i++) {
        if (text[0] < FORMS[i].first_low || text[0] > FORMS[i].first_high) {
            continue;
        }
        if (text[1] < FORMS[i].second_low || text[1] > FORMS[i].second_high) {
            return 0;
        }
        for (size_t k = 2; k < FORMS[i].length; k++) {
            if (text[k] < 0x80 || text[k] > 0xbf) {
                return 0;
            }
        }
        return FORMS[i].length;
    }
    return 0;
}

/* Appends `text` as the inside of a JSON string; stops before a character that does not fit. */
static size_t append_escaped(char *line, size_t at, size_t size, const char *text) {
    const unsigned char *in = (const unsigned char *)text;
    while (*in != '\0' && at + 7 < size) { /* the longest escape is six bytes */
        if (*in >= 0x20 && *in < 0x7f && *in != '"' && *in != '\\') {
            line[at++] = (char)*in++;
        } else if (*in == '"' || *in == '\\') {
            line[at++] = '\\';
            line[at++] = (char)*in++;
        } else if (*in < 0x20 || *in == 0x7f) {
            at += (size_t)snprintf(line + at, size - at, "\\u%04x", (unsigned)*in++);
        } else {
            size_t length = utf8_length(in);
            if (length == 0) {
                line[at++] = '?';
                in++;
            }
            for (; length > 0; length--) {
                line[at++] = (char)*in++;
            }
        }
    }
    line[at] = '\0';
    return at;
}

static void write_line(const char *line, size_t length) {
    while (length > 0) {
        ssize_t written = write(STDERR_FILENO, line, length);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return; /* nobody to tell */
        }
        line += written;
        length -= (size_t)written;
    }
}

static bool is_shown(enum log_level level) {
    return level <= log_get_level() && (int)level >= 0 && level <= LOG_DEBUG;
}

/* The whole line; returns its length. */
static size_t build_line(char line[LINE_MAX_BYTES], const char *time, enum log_level level, const char *event,
                         const char *message) {
    char name[EVENT_MAX_BYTES + 1];
    struct text text;
    text_begin(&text, name, sizeof name);
    text_add(&text, event);
    text_begin(&text, line, LINE_MAX_BYTES);
    text_add(&text, "{\"time\":\"");
    text_add(&text, time);
    text_add(&text, "\",\"level\":\"");
    text_add(&text, LEVEL_NAMES[level]);
    text_add(&text, "\",\"event\":\"");
    text_add(&text, name);
    text_add(&text, "\",\"message\":\"");
    size_t at = append_escaped(line, (size_t)(text.at - line), LINE_MAX_BYTES - sizeof TAIL, message);
    memcpy(line + at, TAIL, sizeof TAIL);
    return at + sizeof TAIL - 1;
}

void log_event(enum log_level level, const char *event, const char *format, ...) {
    if (!is_shown(level)) {
        return;
    }
    int saved = errno;
    char message[MESSAGE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    if (vsnprintf(message, sizeof message, format, args) < 0) {
        message[0] = '\0';
    }
    va_end(args);

    char line[LINE_MAX_BYTES];
    char time[CLOCK_RFC3339_SIZE];
    clock_rfc3339(clock_wall_ms(), time);
    write_line(line, build_line(line, time, level, event, message));
    errno = saved;
}

/* "2026-01-31T23:59:59.123Z", of which all but the last five bytes changes once a second. */
static void tell_time(struct log_lines *lines, char out[CLOCK_RFC3339_SIZE]) {
    const int64_t now = clock_wall_ms();
    const int64_t millis = now % 1000;
    const size_t date = sizeof "2026-01-31T23:59:59" - 1;
    if (lines->second != now / 1000 || lines->date[0] == '\0') {
        clock_rfc3339(now, out);
        memcpy(lines->date, out, date);
        lines->second = now / 1000;
    }
    memcpy(out, lines->date, date);
    const char fraction[] = {
        '.', (char)('0' + millis / 100), (char)('0' + millis / 10 % 10), (char)('0' + millis % 10), 'Z', '\0'};
    memcpy(out + date, fraction, sizeof fraction);
}

void log_lines_add(struct log_lines *lines, enum log_level level, const char *event, const char *message) {
    if (!is_shown(level)) {
        return;
    }
    char line[LINE_MAX_BYTES];
    char time[CLOCK_RFC3339_SIZE];
    tell_time(lines, time);
    size_t length = build_line(line, time, level, event, message);
    if (length > sizeof lines->bytes - lines->length) {
        log_lines_write(lines);
    }
    memcpy(lines->bytes + lines->length, line, length);
    lines->length += length;
}

void log_lines_write(struct log_lines *lines) {
    int saved = errno;
    write_line(lines->bytes, lines->length);
    lines->length = 0;
    errno = saved;
}
