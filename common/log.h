/* The log: one JSON object a line on stderr, written with one write(2) so that threads and processes do not mix
 * within a line. Level and fields are data, never formats from outside. */
#ifndef ONP_COMMON_LOG_H
#define ONP_COMMON_LOG_H

#include <stdarg.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Messages less severe than `level` are dropped. Default LOG_INFO. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* {"time":...,"level":"info","event":"job_started","message":"..."} with the message JSON-escaped. `event` is a
 * snake_case literal that operators can filter by. Any thread. */
void log_event(enum log_level level, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
