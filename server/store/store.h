/* The store: the only place that knows SQLite. It keeps rows in <data>/onp.db and bytes in <data>/blobs, named by
 * their SHA-256.
 *
 * Rows: models and samples are in store_objects.h, jobs with their events, results and artifacts in store_jobs.h.
 *
 * Threads: every function may be called from any thread. Functions that change something hand a command to the one
 * writer thread and wait until it is committed and on disk (milliseconds: not for a loop thread, unless said so).
 * Functions that only read use a read-only connection of their own and never wait for the writer.
 *
 * Errors, beyond those a function names: STATUS_UNAVAILABLE when the disk is full or the store is closing,
 * STATUS_IO when the system refuses, STATUS_NO_MEMORY, STATUS_INTERNAL for a bug of ours. */
#ifndef ONP_SERVER_STORE_STORE_H
#define ONP_SERVER_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/digest.h"
#include "common/embedded.h"
#include "common/error.h"

enum { STORE_PATH_SIZE = 1024 };

struct store;

/* Opens the store in folder `data_dir` (made, with its parents, if missing), brings the database to the newest
 * migration, removes what an earlier run left in <data>/tmp and blobs that no row names, and starts the writer.
 * `migrations`: ends with an entry whose name is NULL; NULL for those built into the binary.
 * STATUS_CONFLICT if another process has this folder open, STATUS_UNSUPPORTED if the database is newer than we are. */
enum status store_open(const char *data_dir, const struct embedded_file *migrations, struct store **out,
                       struct error *error);

/* Commits what is queued, stops the writer, closes the database. No other call may be in progress. Accepts NULL. */
void store_close(struct store *store);

/* `changed` is called with the id of a job after a change of its row or events was committed (or its deletion), from
 * the writer thread, and with that of an upload which has room again (store_upload_full()), from a thread of its own, with no lock
 * held: it must return fast and must not call a store function that writes. It may be called spuriously. NULL switches it off; when this returns, the earlier callback runs no more. Not to be called from the
 * callback itself. */
void store_set_listener(struct store *store, void (*changed)(void *user, const char *job_id), void *user);

/* STATUS_OK if the database takes a write now and the disk has at least `min_free` bytes left; else
 * STATUS_UNAVAILABLE and why. */
enum status store_check_ready(struct store *store, uint64_t min_free, struct error *error);

/* Seconds that the writer has been at what it does now; 0: it waits for work. Never waits. */
double store_stalled_s(struct store *store);

/* STATUS_UNAVAILABLE if the disk has less than `bytes` left. Does not wait. */
enum status store_check_disk(const struct store *store, uint64_t bytes, struct error *error);
/* Bytes of all blobs, and those announced by uploads that come in pieces. */
enum status store_bytes(struct store *store, uint64_t *bytes, struct error *error);

/* The folder given at store_open(), as an absolute path; borrowed. */
const char *store_data_dir(const struct store *store);

/* A number that grows with each commit: what was read when it had this value is still so while it has. Never waits. */
uint64_t store_generation(const struct store *store);

/* --- blobs --- */

/* What a blob is named by and how long it is. */
struct store_blob {
    char sha256[DIGEST_HEX_SIZE];
    uint64_t size;
};

/* The path of a blob, for open(2) or a child process. It stays there while a row names it. */
enum status store_blob_path(const struct store *store, const char *sha256, char out[STORE_PATH_SIZE],
                            struct error *error);

/* Deletes blobs that no row names; *removed (may be NULL) is how many. Objects and jobs that are deleted leave their
 * blobs behind until this runs. */
enum status store_collect_blobs(struct store *store, size_t *removed, struct error *error);

/* --- uploads: bytes on their way in; one thread at a time each --- */

struct store_upload;

/* Starts an upload of at most `max_bytes` into a file below <data>/tmp. */
enum status store_upload_begin(struct store *store, uint64_t max_bytes, struct store_upload **out, struct error *error);
/* Appends bytes and hashes them, here or, for a large upload, in a thread that takes a copy; does not wait for the disk, so a loop
 * thread may call it, if it asks store_upload_full() first. STATUS_LIMIT over max_bytes. An error of an earlier call's bytes may come
 * late. After an error only store_upload_abort() is of use. */
enum status store_upload_write(struct store_upload *upload, const void *data, size_t length, struct error *error);
/* NULL: bytes are welcome, up to STORE_UPLOAD_PIECE without a wait. Else the upload's id (borrowed), which the listener is told when there is
 * room. */
enum { STORE_UPLOAD_PIECE = 512 << 10 };
const char *store_upload_full(struct store_upload *upload);
/* Where the bytes are until the upload becomes an object, so that they can be checked first; borrowed. */
const char *store_upload_path(const struct store_upload *upload);
uint64_t store_upload_size(const struct store_upload *upload);
/* Brings the bytes to disk (waits for it) and gives hash and size. Nothing may be written afterwards. Calling it again gives
 * the same answer. */
enum status store_upload_finish(struct store_upload *upload, struct store_blob *blob, struct error *error);
/* Ends an upload at any point and frees it. Its file is removed unless store_object_insert() has taken it. Accepts NULL. */
void store_upload_abort(struct store_upload *upload);

#endif
