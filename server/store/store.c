/* The life of the store: folders, the lock against a second process, the order of starting and stopping. */
#include "server/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/mem.h"
#include "server/store/store_internal.h"

static enum status make_folders(struct store *store, const char *data_dir, struct error *error) {
    const struct {
        char *out;
        const char *name;
        bool folder;
    } paths[] = {
        {store->blobs_dir, "blobs", true},
        {store->tmp_dir, "tmp", true},
        {store->uploads_dir, "uploads", true},
        {store->database, "onp.db", false},
    };
    enum status status = file_make_dir(data_dir, error);
    if (status != STATUS_OK) {
        return status;
    }
    /* Absolute, because children get paths and work in folders of their own. */
    char *absolute = realpath(data_dir, NULL);
    if (absolute == NULL) {
        return error_io(error, "data folder", "failed to find the data folder");
    }
    size_t length = strlen(absolute);
    if (length < sizeof store->data_dir) {
        memcpy(store->data_dir, absolute, length + 1);
    } else {
        status = error_set(error, STATUS_LIMIT, "data folder", "failed to open the store: the path is too long");
    }
    free(absolute); /* of realpath() */
    for (size_t i = 0; i < sizeof paths / sizeof paths[0] && status == STATUS_OK; i++) {
        status = file_join(paths[i].out, STORE_PATH_SIZE, store->data_dir, paths[i].name, error);
        if (status == STATUS_OK && paths[i].folder) {
            status = file_make_dir(paths[i].out, error);
        }
    }
    return status;
}

/* Two processes on one folder would be two writers. The kernel lets go of the lock when we end, however we end. */
static enum status lock_folder(struct store *store, struct error *error) {
    char path[STORE_PATH_SIZE];
    enum status status = file_join(path, sizeof path, store->data_dir, "lock", error);
    if (status != STATUS_OK) {
        return status;
    }
    store->lock_file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->lock_file < 0) {
        return error_io(error, "data folder", "failed to open the lock file of the store");
    }
    if (flock(store->lock_file, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            return error_set(error, STATUS_CONFLICT, "data folder",
                             "failed to open the store: another process has this data folder open");
        }
        return error_io(error, "data folder", "failed to lock the store");
    }
    return STATUS_OK;
}

static bool init_locks(struct store *store) {
    pthread_condattr_t monotonic;
    pthread_rwlockattr_t writers_first;
    if (pthread_condattr_init(&monotonic) != 0 || pthread_rwlockattr_init(&writers_first) != 0) {
        return false;
    }
    bool fine = pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0 &&
                pthread_rwlockattr_setkind_np(&writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) == 0 &&
                pthread_mutex_init(&store->lock, NULL) == 0 && pthread_cond_init(&store->wake, &monotonic) == 0 &&
                pthread_mutex_init(&store->listener_lock, NULL) == 0 &&
                pthread_mutex_init(&store->readers_lock, NULL) == 0 &&
                pthread_rwlock_init(&store->blobs_lock, &writers_first) == 0;
    pthread_condattr_destroy(&monotonic);
    pthread_rwlockattr_destroy(&writers_first);
    return fine;
}

enum status store_open(const char *data_dir, const struct embedded_file *migrations, struct store **out,
                       struct error *error) {
    struct store *store = mem_calloc(1, sizeof(*store));
    if (store == NULL) {
        return error_no_memory(error, "the store");
    }
    store->lock_file = -1;
    if (!init_locks(store)) {
        mem_free(store);
        return error_no_memory(error, "the locks of the store");
    }
    enum status status = make_folders(store, data_dir, error);
    if (status == STATUS_OK) {
        status = lock_folder(store, error);
    }
    if (status == STATUS_OK) {
        status = store_sql_open(&store->write.sql, store->database, true, error);
    }
    if (status == STATUS_OK) {
        status = store_migrate(&store->write.sql, migrations != NULL ? migrations : embedded_migrations, error);
    }
    if (status == STATUS_OK) {
        status = store_blobs_clean(store, error);
    }
    if (status == STATUS_OK) {
        status = store_resumables_clean(store, error);
    }
    if (status == STATUS_OK) {
        status = store_writer_start(store, error);
    }
    if (status != STATUS_OK) {
        store_close(store);
        return status;
    }
    *out = store;
    return STATUS_OK;
}

void store_close(struct store *store) {
    if (store == NULL) {
        return;
    }
    store_writer_stop(store);
    /* Readers first, so that the writer's connection is the last one and checkpoints. */
    store_readers_close(store);
    store_sql_close(&store->write.sql);
    if (store->lock_file >= 0) {
        (void)close(store->lock_file);
    }
    mem_free(store->pending);
    pthread_mutex_destroy(&store->lock);
    pthread_cond_destroy(&store->wake);
    pthread_mutex_destroy(&store->listener_lock);
    pthread_mutex_destroy(&store->readers_lock);
    pthread_rwlock_destroy(&store->blobs_lock);
    mem_free(store);
}

void store_set_listener(struct store *store, void (*changed)(void *user, const char *job_id), void *user) {
    pthread_mutex_lock(&store->listener_lock);
    store->changed = changed;
    store->changed_user = user;
    pthread_mutex_unlock(&store->listener_lock);
}

uint64_t store_generation(const struct store *store) {
    return atomic_load(&store->generation);
}

const char *store_data_dir(const struct store *store) {
    return store->data_dir;
}

static enum status write_probe(struct store_write *write, void *user, struct error *error) {
    (void)user;
    struct store_query query;
    enum status status =
        store_query_init(&query, &write->sql, "INSERT OR REPLACE INTO probe (id, time_ms) VALUES (1, ?)", error);
    if (status == STATUS_OK) {
        store_query_i64(&query, clock_wall_ms());
        status = store_query_finish(&query, NULL, error);
    }
    return status;
}

enum status store_check_disk(const struct store *store, uint64_t bytes, struct error *error) {
    struct statvfs disk;
    if (statvfs(store->data_dir, &disk) != 0) {
        return error_io(error, "data folder", "failed to look at the disk of the store");
    }
    uint64_t left = (uint64_t)disk.f_bavail * (uint64_t)disk.f_frsize;
    if (left < bytes) {
        return error_set(error, STATUS_UNAVAILABLE, "disk", "disk is low: got %llu bytes free, expected at least %llu",
                         (unsigned long long)left, (unsigned long long)bytes);
    }
    return STATUS_OK;
}

enum status store_bytes(struct store *store, uint64_t *bytes, struct error *error) {
    struct store_sql *sql = NULL;
    struct store_query query = {0};
    bool row = false;
    enum status status = store_read_begin(store, &sql, error);
    if (status == STATUS_OK) {
        status = store_query_init(&query, sql,
                                  "SELECT (SELECT coalesce(sum(size), 0) FROM blobs) + (SELECT coalesce(sum(length), 0)"
                                  " FROM uploads WHERE object_id = '')",
                                  error);
    }
    if (status == STATUS_OK) {
        status = store_query_step(&query, &row, error);
    }
    if (status == STATUS_OK && row) {
        *bytes = store_column_u64(&query, 0);
    }
    store_query_end(&query);
    store_read_end(store, sql);
    return status;
}

enum status store_check_ready(struct store *store, uint64_t min_free, struct error *error) {
    struct statvfs disk;
    if (statvfs(store->data_dir, &disk) != 0) {
        return error_io(error, "data folder", "failed to look at the disk of the store");
    }
    enum status status = store_check_disk(store, min_free, error);
    if (status != STATUS_OK) {
        return status;
    }
    if ((disk.f_flag & ST_RDONLY) != 0 || access(store->data_dir, W_OK) != 0) {
        return error_set(error, STATUS_UNAVAILABLE, "disk", "the data folder is read-only");
    }
    /* Only after a refusal is a write tried: this is called often, and a write waits for the disk. */
    if (atomic_load(&store->write_failed)) {
        struct error cause = {0};
        if (store_write_run(store, write_probe, NULL, &cause) != STATUS_OK) {
            return error_set(error, STATUS_UNAVAILABLE, "database", "%s", cause.message);
        }
    }
    return STATUS_OK;
}
