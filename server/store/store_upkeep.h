/* What operators want of the store: figures, the end of old things, copies of all of it. */
#ifndef ONP_SERVER_STORE_STORE_UPKEEP_H
#define ONP_SERVER_STORE_STORE_UPKEEP_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/store/store.h"

struct store_figures {
    uint64_t commits, failed_commits; /* since the start */
    uint64_t models, samples;
    uint64_t disk_free, disk_total; /* bytes of the disk of the data folder */
    double queue_age_s;             /* of the job that waits longest; 0: none waits */
};
/* Only reads; cheap enough for a loop thread. */
enum status store_figures(struct store *store, struct store_figures *out, struct error *error);

/* Times in the past, milliseconds of the Unix epoch; what is older goes. 0: it stays. */
struct store_retention {
    int64_t succeeded_before_ms; /* jobs by their end */
    int64_t failed_before_ms;    /* failed and cancelled ones */
    int64_t unused_before_ms;    /* models and samples by their upload, if no job names them */
};
enum { STORE_RETAIN_BATCH = 500 };
/* Deletes up to STORE_RETAIN_BATCH of each kind, oldest first, in one transaction. *deleted: how many in all. Their bytes go
 * with the next store_collect_blobs(). */
enum status store_retain(struct store *store, const struct store_retention *retention, size_t *deleted,
                         struct error *error);

struct store_backup_figures {
    uint64_t blobs, copied, bytes; /* named by the backup; copied now; bytes copied */
};
/* Copies the store in `data_dir`, which a running server may have open, into `folder`: the database as of one moment, and every blob
 * that it names, checked against its hash. Blobs that are in the folder already are kept, so a second backup is cheap. The backup is
 * complete when its "onp.db" has its name, which it gets last. */
enum status store_backup(const char *data_dir, const char *folder, struct store_backup_figures *figures,
                         struct error *error);
/* The way back: `data_dir` must not hold a store yet. Everything is checked on the way. */
enum status store_restore(const char *folder, const char *data_dir, struct store_backup_figures *figures,
                          struct error *error);

#endif
