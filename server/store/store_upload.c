/* Uploads: bytes go to a file below <data>/tmp and through a hash as they come, so finishing costs one sync and no second
 * reading. Those of large uploads do so in a thread of their own, as long as not too many do. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/file.h"
#include "common/id.h"
#include "common/mem.h"
#include "server/store/store_internal.h"
#include "server/store/store_pipe.h"

enum { LARGE = 4 << 20 }; /* smaller ones are over before a thread has begun */
_Static_assert((int)STORE_UPLOAD_PIECE == (int)STORE_PIPE_CHUNK, "what the header promises");

struct store_upload {
    struct digest *digest;
    struct store_pipe *pipe; /* NULL: whoever brings the bytes writes them */
    struct store *owner;     /* of `pipe` */
    char id[ID_SIZE];
    uint64_t max_bytes;
    uint64_t next_look; /* the size at which it may get a pipe */
    int fd;
    bool failed;   /* the file is not what was sent: it must not be finished */
    bool finished; /* blob is valid */
    bool adopted;  /* a file that came in pieces */
    const struct store *store;
    struct store_blob blob;
    char path[STORE_PATH_SIZE];
};

enum status store_upload_begin(struct store *store, uint64_t max_bytes, struct store_upload **out,
                               struct error *error) {
    struct store_upload *upload = mem_calloc(1, sizeof(*upload));
    if (upload == NULL) {
        return error_no_memory(error, "an upload");
    }
    upload->fd = -1;
    upload->owner = store;
    upload->max_bytes = max_bytes;
    upload->next_look = LARGE;
    upload->digest = digest_new();
    enum status status = upload->digest != NULL ? STATUS_OK : error_no_memory(error, "a hash");
    if (status == STATUS_OK) {
        id_make("upl", upload->id);
        status = file_join(upload->path, sizeof upload->path, store->tmp_dir, upload->id, error);
    }
    if (status == STATUS_OK) {
        upload->fd = open(upload->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        /* Whatever the umask: a checking child of another user opens it by its descriptor; the folder is ours alone. */
        if (upload->fd < 0 || fchmod(upload->fd, 0644) != 0) {
            upload->path[0] = '\0';
            status = store_refused(error, "begin an upload");
        }
    }
    if (status != STATUS_OK) {
        store_upload_abort(upload);
        return status;
    }
    *out = upload;
    return STATUS_OK;
}

/* Writer thread of the pipe. */
static void tell_room(void *user) {
    const struct store_upload *upload = user;
    struct store *store = upload->owner;
    pthread_mutex_lock(&store->listener_lock);
    if (store->changed != NULL) {
        store->changed(store->changed_user, upload->id);
    }
    pthread_mutex_unlock(&store->listener_lock);
}

/* A thread for an upload that has become large, if there may be one more. */
static void want_pipe(struct store_upload *upload) {
    struct store *store = upload->owner;
    if (atomic_fetch_add(&store->pipes, 1) < STORE_PIPES_MAX) {
        upload->pipe = store_pipe_open(upload->fd, upload->digest, tell_room, upload);
    }
    if (upload->pipe == NULL) {
        (void)atomic_fetch_sub(&store->pipes, 1);
    }
}

/* false, with errno set: something was not written. */
static bool end_pipe(struct store_upload *upload, bool drop) {
    bool whole = true;
    if (upload->pipe != NULL) {
        (void)atomic_fetch_sub(&upload->owner->pipes, 1);
        whole = store_pipe_close(upload->pipe, drop);
        upload->pipe = NULL;
    }
    return whole;
}

static bool store_bytes_of(struct store_upload *upload, const void *data, size_t length) {
    /* Asked again at each doubling, for another upload may have ended meanwhile. */
    if (upload->pipe == NULL && upload->blob.size < upload->next_look &&
        upload->blob.size + length >= upload->next_look) {
        upload->next_look *= 2;
        want_pipe(upload);
    }
    if (upload->pipe != NULL) {
        store_pipe_put(upload->pipe, data, length);
        return !store_pipe_has_failed(upload->pipe);
    }
    digest_update(upload->digest, data, length);
    return file_write_all(upload->fd, data, length);
}

enum status store_upload_write(struct store_upload *upload, const void *data, size_t length, struct error *error) {
    if (upload->failed || upload->finished) {
        return error_set(error, STATUS_CONFLICT, "upload", "failed to add to an upload: it has failed or is finished");
    }
    if (length > upload->max_bytes - upload->blob.size) {
        upload->failed = true;
        return error_set(error, STATUS_LIMIT, "upload", "failed to store an upload: got more than %llu bytes",
                         (unsigned long long)upload->max_bytes);
    }
    if (!store_bytes_of(upload, data, length)) {
        upload->failed = true;
        return store_refused(error, "store an upload");
    }
    upload->blob.size += length;
    return STATUS_OK;
}

enum status store_upload_adopt(struct store *store, const char *path, uint64_t size, struct store_upload **out,
                               struct error *error) {
    struct store_upload *upload = mem_calloc(1, sizeof(*upload));
    if (upload == NULL) {
        return error_no_memory(error, "an upload");
    }
    upload->fd = -1;
    upload->adopted = true;
    upload->store = store;
    upload->blob.size = size;
    (void)snprintf(upload->path, sizeof upload->path, "%s", path);
    *out = upload;
    return STATUS_OK;
}

const char *store_upload_full(struct store_upload *upload) {
    return upload->pipe != NULL && store_pipe_is_full(upload->pipe) ? upload->id : NULL;
}

const char *store_upload_path(const struct store_upload *upload) {
    return upload->path;
}

uint64_t store_upload_size(const struct store_upload *upload) {
    return upload->blob.size;
}

enum status store_upload_finish(struct store_upload *upload, struct store_blob *blob, struct error *error) {
    if (upload->failed) {
        return error_set(error, STATUS_CONFLICT, "upload", "failed to finish an upload: it has failed before");
    }
    if (!upload->finished && upload->adopted) {
        const enum status status = store_blob_seal(upload->store, upload->path, &upload->blob, error);
        upload->failed = status != STATUS_OK;
        upload->finished = status == STATUS_OK;
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (!upload->finished) {
        if (!end_pipe(upload, false) || fchmod(upload->fd, 0444) != 0 || fsync(upload->fd) != 0) {
            upload->failed = true;
            return store_refused(error, "bring an upload to disk");
        }
        digest_finish(upload->digest, upload->blob.sha256);
        upload->finished = true;
    }
    *blob = upload->blob;
    return STATUS_OK;
}

void store_upload_abort(struct store_upload *upload) {
    if (upload == NULL) {
        return;
    }
    (void)end_pipe(upload, true);
    if (upload->fd >= 0) {
        (void)close(upload->fd);
    }
    /* A blob made of it is a second name of the file and stays. */
    if (upload->path[0] != '\0' && !upload->adopted) {
        (void)unlink(upload->path);
    }
    digest_free(upload->digest);
    mem_free(upload);
}
