/* Opaque ids: a prefix and a ULID ("job_01J9Z3K..."), sortable by time, unguessable enough to be unique. */
#ifndef ONP_COMMON_ID_H
#define ONP_COMMON_ID_H

#include <stdbool.h>

enum { ID_SIZE = 32 }; /* 4 + 26 + NUL, rounded up */

/* prefix: "mdl", "smp", "job", "tok". Monotonic within a process even in one millisecond. Any thread. */
void id_make(const char *prefix, char out[ID_SIZE]);
/* true if text is the prefix, '_' and 26 characters of Crockford's base 32 in upper case. */
bool id_is_valid(const char *text, const char *prefix);

#endif
