/* What the files of the store share: the writer, readers, the table of kinds. */
#ifndef ONP_SERVER_STORE_STORE_INTERNAL_H
#define ONP_SERVER_STORE_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/embedded.h"
#include "common/error.h"
#include "common/id.h"
#include "server/store/store.h"
#include "server/store/store_idempotency.h"
#include "server/store/store_jobs.h"
#include "server/store/store_objects.h"
#include "server/store/store_sql.h"

enum {
    STORE_READERS_IDLE = 8,
    STORE_CHANGES_MAX = 64,
    STORE_PENDING_MAX = 256,
    STORE_PIPES_MAX = 4, /* uploads with a thread of their own, each with 4 MiB of memory */
};

/* The writer's side of a transaction, handed to each piece of work. Writer thread only. */
struct store_write {
    struct store_sql sql;
    char changed[STORE_CHANGES_MAX][ID_SIZE]; /* jobs to tell the listener about after the commit */
    size_t changed_count;
    bool refused; /* the system refused something in this transaction */
};

/* Runs in the writer thread inside a transaction, which is undone unless it returns STATUS_OK. */
typedef enum status store_work(struct store_write *write, void *user, struct error *error);

struct store_command; /* work that waits, on the stack of the thread that waits for it */
struct store_pending; /* the latest progress of one attempt */

struct store {
    char data_dir[STORE_PATH_SIZE];
    char database[STORE_PATH_SIZE];
    char blobs_dir[STORE_PATH_SIZE];
    char tmp_dir[STORE_PATH_SIZE];
    char uploads_dir[STORE_PATH_SIZE];
    int lock_file; /* held as long as the store is open, so that no second process writes */

    struct store_write write; /* the writer thread's own */
    pthread_t writer;
    bool writer_started;
    pthread_mutex_t lock; /* guards queue, pending, stopping */
    pthread_cond_t wake;
    struct store_command *first, *last;
    struct store_pending *pending;
    size_t pending_count;
    double pending_since;
    double busy_since; /* when the writer took what it works at; 0: nothing */
    bool stopping;
    atomic_uint_fast64_t commits, failed_commits;
    _Atomic uint64_t generation; /* commits so far */
    atomic_bool write_failed;    /* the latest transaction met a refusal: the disk may be full */

    pthread_mutex_t listener_lock; /* held while the listener runs */
    void (*changed)(void *user, const char *job_id);
    void *changed_user;

    pthread_mutex_t readers_lock; /* guards idle */
    struct store_sql *idle[STORE_READERS_IDLE];
    size_t idle_count;

    atomic_uint pipes; /* uploads that have a thread now */

    /* Shared: from giving a file its blob name to the commit of the row that names it. Exclusive: collecting blobs. */
    pthread_rwlock_t blobs_lock;
};

/* --- store_migrate.c --- */
enum status store_migrate(struct store_sql *sql, const struct embedded_file *migrations, struct error *error);

/* --- store_writer.c --- */
enum status store_writer_start(struct store *store, struct error *error);
void store_writer_stop(struct store *store); /* commits what waits first */
/* Has `work` run in a transaction and waits until it is on disk (synchronous = FULL). */
enum status store_write_run(struct store *store, store_work *work, void *user, struct error *error);
/* Notes that a job has changed, for the listener. */
void store_write_changed(struct store_write *write, const char *job_id);

/* --- store_progress.c --- */
struct store_pending {
    char id[ID_SIZE];
    uint64_t attempt;
    int64_t lease_until_ms;
    bool has_progress;
    struct store_progress progress;
};

/* Writes all of pending[0..count); in a transaction of the writer. */
enum status store_progress_write(struct store_write *write, const struct store_pending *pending, size_t count,
                                 struct error *error);

/* --- store_reader.c --- */
/* A read-only connection for this thread until store_read_end(). */
enum status store_read_begin(struct store *store, struct store_sql **sql, struct error *error);
void store_read_end(struct store *store, struct store_sql *sql); /* accepts NULL */
void store_readers_close(struct store *store);

/* --- store_blobs.c --- */
/* From errno: a disk that is full or read-only is for the client to try again later (STATUS_UNAVAILABLE); all else is for the
 * operator (STATUS_IO). */
enum status store_refused(struct error *error, const char *what);
/* Removes files of <data>/blobs that no row names, and all of <data>/tmp; before the writer starts. */
enum status store_blobs_clean(struct store *store, struct error *error);
/* Gives a finished file its blob name, leaving `path` in place; the caller holds blobs_lock shared until its row is
 * committed. Durable on return. */
enum status store_blob_link(struct store *store, const char *path, const struct store_blob *blob, struct error *error);
/* Hashes a regular file, makes it read-only and durable. Links are refused. */
enum status store_blob_seal(const struct store *store, const char *path, struct store_blob *blob, struct error *error);
/* The row of a blob, in a transaction of the writer. */
enum status store_blob_insert(struct store_write *write, const struct store_blob *blob, struct error *error);

/* --- store_upload.c --- */
/* A whole file of `size` bytes as an upload; finishing it hashes the file, aborting it leaves the file. */
enum status store_upload_adopt(struct store *store, const char *path, uint64_t size, struct store_upload **out,
                               struct error *error);

/* --- store_resumable.c --- */
enum status store_resumable_path(const struct store *store, const char *id, char out[STORE_PATH_SIZE],
                                 struct error *error);
/* Removes files of <data>/uploads that no row names and what rows do not count; before the writer starts. */
enum status store_resumables_clean(struct store *store, struct error *error);

/* --- store_idempotency.c --- */
/* Notes what a request with this key has made, in the transaction that makes it. */
enum status store_idempotency_note(struct store_write *write, const struct store_idempotency_key *key,
                                   const char *resource, struct error *error);

/* --- store_jobs.c --- */
/* The row of a job; STATUS_NOT_FOUND. */
enum status store_job_load(struct store_sql *sql, const char *id, struct store_job *job, struct error *error);

/* --- store_events.c --- */
/* Appends an event in a transaction of the writer; data borrowed, NULL: {}. */
enum status store_event_insert(struct store_write *write, const char *job_id, const char *type, const json_t *data,
                               struct error *error);
/* The event of a state reached; problem NULL or the reason. */
enum status store_event_state(struct store_write *write, const char *job_id, enum job_state state, uint64_t attempt,
                              const struct error *problem, struct error *error);

#endif
