/* Files that the build compiles into the binaries (migrations, dashboard, OpenAPI): see common/embed.sh. */
#ifndef ONP_COMMON_EMBEDDED_H
#define ONP_COMMON_EMBEDDED_H

#include <stddef.h>

struct embedded_file {
    const char *name;          /* path below the embedded folder, "001_init.sql"; NULL ends an array */
    const unsigned char *data; /* followed by a NUL that `size` does not count */
    size_t size;
};

/* Sorted by name, so that migrations come in the order of their numbers. */
extern const struct embedded_file embedded_migrations[]; /* in store.a */
extern const struct embedded_file embedded_dashboard[];  /* in api.a */
extern const struct embedded_file embedded_openapi[];    /* in api.a: server/api/openapi.*, if present */
extern const struct embedded_file embedded_policy[];     /* in agent.a: server/agent/weights */

#endif
