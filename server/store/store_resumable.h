/* Uploads that come in pieces, over several connections and restarts. What a row says was taken is on the disk. */
#ifndef ONP_SERVER_STORE_STORE_RESUMABLE_H
#define ONP_SERVER_STORE_STORE_RESUMABLE_H

#include <stddef.h>
#include <stdint.h>

#include "common/id.h"
#include "server/store/store.h"

enum { STORE_METADATA_SIZE = 1024, STORE_RESUMABLES_MAX = 1000 };

struct store_resumable {
    char id[ID_SIZE];                   /* upl_... */
    uint64_t length, taken;             /* bytes announced; bytes that are here */
    char metadata[STORE_METADATA_SIZE]; /* as the client sent it */
    char object_id[ID_SIZE];            /* what it was made into; "" if nothing yet */
    int64_t created_ms, expires_ms;
};

/* STATUS_LIMIT with place "queue" beyond STORE_RESUMABLES_MAX. */
enum status store_resumable_create(struct store *store, uint64_t length, const char *metadata, int64_t lifetime_ms,
                                   struct store_resumable *upload, struct error *error);
enum status store_resumable_find(struct store *store, const char *id, struct store_resumable *upload,
                                 struct error *error);
/* Row and file. STATUS_NOT_FOUND. */
enum status store_resumable_delete(struct store *store, const char *id, struct error *error);
/* Deletes those that expired before now_ms. */
enum status store_resumable_purge(struct store *store, int64_t now_ms, struct error *error);
/* A whole one as an upload that can be made an object (store_object_insert()); end it with store_upload_abort(), which
 * leaves the file. STATUS_CONFLICT if bytes are missing. */
enum status store_resumable_open(struct store *store, const struct store_resumable *upload, struct store_upload **out,
                                 struct error *error);
/* Notes what it was made into, and removes the file. */
enum status store_resumable_done(struct store *store, const char *id, const char *object_id, struct error *error);

/* --- a piece: bytes on their way in, appended at `taken` --- */

struct store_piece;

/* One piece of an upload at a time. Begin and write do not wait for the disk: a loop thread may call them. What an earlier piece left
 * unfinished is cut off. */
enum status store_piece_begin(struct store *store, const struct store_resumable *upload, struct store_piece **out,
                              struct error *error);
/* STATUS_LIMIT past the announced length. */
enum status store_piece_write(struct store_piece *piece, const void *data, size_t length, struct error *error);
/* Where the upload stands with what was written. */
uint64_t store_piece_offset(const struct store_piece *piece);
/* Brings all up to `offset` to disk and notes it; the upload then lives for lifetime_ms more. May be called while another thread
 * writes on. */
enum status store_piece_commit(struct store_piece *piece, uint64_t offset, int64_t lifetime_ms, struct error *error);
/* Cuts off what was not committed. */
void store_piece_undo(struct store_piece *piece);
/* One more user, each of whom calls store_piece_free(). */
void store_piece_hold(struct store_piece *piece);
void store_piece_free(struct store_piece *piece); /* accepts NULL */

#endif
