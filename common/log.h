/* The log: one JSON object a line on stderr, written with one write(2) so that threads and processes do not mix
 * within a line. Level and fields are data, never formats from outside. */
#ifndef ONP_COMMON_LOG_H
#define ONP_COMMON_LOG_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Messages less severe than `level` are dropped. Default LOG_INFO. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* {"time":...,"level":"info","event":"job_started","message":"..."} with the message JSON-escaped. `event` is a
 * snake_case literal that operators can filter by. Any thread. */
void log_event(enum log_level level, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Lines of one thread that leave together, in one write(2), where one a request would cost as much as the request. Starts as {0}. */
enum { LOG_LINES_BYTES = 4096, LOG_DATE_SIZE = 24 }; /* PIPE_BUF of Linux: up to it a write to a pipe is one piece */
struct log_lines {
    size_t length;
    int64_t second; /* of `date`, since the Unix epoch */
    char date[LOG_DATE_SIZE];
    char bytes[LOG_LINES_BYTES];
};
/* As log_event(level, event, "%s", message), but written by log_lines_write(), or before that when there is no more room. */
void log_lines_add(struct log_lines *lines, enum log_level level, const char *event, const char *message);
void log_lines_write(struct log_lines *lines);

#endif
