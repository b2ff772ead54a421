/* The writer: one thread that alone writes and checkpoints, because Debian's SQLite 3.40.1 can corrupt a WAL database with
 * two of either. Other threads queue a command and wait for it.
 *
 * All commands that wait are run in one transaction, each in a savepoint of its own, and share one sync of the disk. Progress is
 * different: it may be lost in a power cut, so it gathers for a quarter of a second and is committed without a sync, or
 * goes along with the next command. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "server/store/store_internal.h"

static const double BATCH_S = 0.25;

struct store_command {
    struct store_command *next;
    store_work *work;
    void *user;
    struct error *error; /* the waiting thread's */
    enum status status;
    bool done; /* guarded by the store's lock */
    pthread_cond_t finished;
};

void store_write_changed(struct store_write *write, const char *job_id) {
    for (size_t i = 0; i < write->changed_count; i++) {
        if (strcmp(write->changed[i], job_id) == 0) {
            return;
        }
    }
    if (write->changed_count < STORE_CHANGES_MAX) {
        (void)snprintf(write->changed[write->changed_count++], ID_SIZE, "%s", job_id);
    }
}

enum status store_write_run(struct store *store, store_work *work, void *user, struct error *error) {
    struct error own = {0};
    struct store_command command = {.work = work, .user = user, .error = error != NULL ? error : &own};
    if (pthread_cond_init(&command.finished, NULL) != 0) {
        return error_no_memory(error, "a wait for the database");
    }
    pthread_mutex_lock(&store->lock);
    if (store->stopping || !store->writer_started) {
        command.status =
            error_set(error, STATUS_UNAVAILABLE, "database", "failed to write to the database: it is being closed");
    } else {
        if (store->last != NULL) {
            store->last->next = &command;
        } else {
            store->first = &command;
        }
        store->last = &command;
        pthread_cond_signal(&store->wake);
        while (!command.done) {
            pthread_cond_wait(&command.finished, &store->lock);
        }
    }
    pthread_mutex_unlock(&store->lock);
    pthread_cond_destroy(&command.finished);
    return command.status;
}

/* Runs one command in its savepoint. false: the whole transaction is gone (SQLite rolls back by itself when the disk is
 * full), or must go. */
static bool run_command(struct store_write *write, struct store_command *command) {
    size_t changed = write->changed_count;
    command->status = store_sql_run(&write->sql, "SAVEPOINT command", command->error);
    if (command->status != STATUS_OK) {
        return false;
    }
    command->status = command->work(write, command->user, command->error);
    if (sqlite3_get_autocommit(write->sql.db) != 0) {
        if (command->status == STATUS_OK) {
            command->status = error_set(command->error, STATUS_INTERNAL, "database",
                                        "failed to write to the database: the transaction was undone");
        }
        return false;
    }
    if (command->status != STATUS_OK) {
        write->changed_count = changed;
        write->refused |= command->status == STATUS_IO || command->status == STATUS_UNAVAILABLE;
        if (store_sql_run(&write->sql, "ROLLBACK TO command", NULL) != STATUS_OK) {
            return false;
        }
    }
    return store_sql_run(&write->sql, "RELEASE command", NULL) == STATUS_OK;
}

static enum status begin(struct store_write *write, bool durable, struct error *error) {
    write->changed_count = 0;
    write->refused = false;
    /* Only outside a transaction does this have an effect. */
    enum status status =
        store_sql_run(&write->sql, durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", error);
    return status == STATUS_OK ? store_sql_run(&write->sql, "BEGIN IMMEDIATE", error) : status;
}

static enum status transact(struct store_write *write, struct store_command *commands,
                            const struct store_pending *pending, size_t pending_count, struct error *error) {
    enum status status = begin(write, commands != NULL, error);
    /* Progress first: what it says came before the commands. */
    if (status == STATUS_OK && pending_count > 0) {
        status = store_progress_write(write, pending, pending_count, error);
    }
    for (struct store_command *command = commands; command != NULL && status == STATUS_OK; command = command->next) {
        if (!run_command(write, command)) {
            status = command->status != STATUS_OK
                         ? command->status
                         : error_set(error, STATUS_INTERNAL, "database", "failed to release a savepoint");
            (void)error_set(error, status, command->error->where, "%s", command->error->message);
        }
    }
    if (status == STATUS_OK) {
        status = store_sql_run(&write->sql, "COMMIT", error);
    }
    if (status != STATUS_OK) {
        write->changed_count = 0;
        if (sqlite3_get_autocommit(write->sql.db) == 0) {
            (void)store_sql_run(&write->sql, "ROLLBACK", NULL);
        }
    }
    return status;
}

/* No command of an undone transaction may report success. */
static void fail_all(struct store_command *commands, const struct error *error) {
    for (struct store_command *command = commands; command != NULL; command = command->next) {
        if (command->status == STATUS_OK) {
            command->status = error_set(command->error, error->status, error->where, "%s", error->message);
        }
    }
}

static void answer(struct store *store, struct store_command *commands) {
    pthread_mutex_lock(&store->lock);
    while (commands != NULL) {
        /* The command lives on the waiting thread's stack: gone once the lock is let go. */
        struct store_command *next = commands->next;
        commands->done = true;
        pthread_cond_signal(&commands->finished);
        commands = next;
    }
    pthread_mutex_unlock(&store->lock);
}

static void tell_listener(struct store *store) {
    struct store_write *write = &store->write;
    pthread_mutex_lock(&store->listener_lock);
    for (size_t i = 0; i < write->changed_count && store->changed != NULL; i++) {
        store->changed(store->changed_user, write->changed[i]);
    }
    pthread_mutex_unlock(&store->listener_lock);
}

static void write_batch(struct store *store, struct store_command *commands, struct store_pending *pending,
                        size_t pending_count) {
    struct error error = {0};
    enum status status = transact(&store->write, commands, pending, pending_count, &error);
    (void)atomic_fetch_add(status == STATUS_OK ? &store->commits : &store->failed_commits, 1);
    atomic_store(&store->write_failed, status != STATUS_OK || store->write.refused);
    atomic_fetch_add(&store->generation, 1); /* before anybody hears of it */
    if (status != STATUS_OK) {
        log_event(LOG_ERROR, "database_write_failed", "%s", error.message);
        fail_all(commands, &error);
    }
    answer(store, commands);
    tell_listener(store);
    mem_free(pending);
}

/* Waits, with the lock held, until there is something to do. false: stopping and nothing is left. */
static bool wait_for_work(struct store *store) {
    while (store->first == NULL) {
        if (store->pending_count > 0) {
            double left = store->pending_since + BATCH_S - clock_seconds();
            if (left <= 0 || store->stopping) {
                return true;
            }
            struct timespec until;
            clock_gettime(CLOCK_MONOTONIC, &until);
            long nanoseconds = until.tv_nsec + (long)(left * 1e9);
            until.tv_sec += nanoseconds / 1000000000L;
            until.tv_nsec = nanoseconds % 1000000000L;
            pthread_cond_timedwait(&store->wake, &store->lock, &until);
        } else if (store->stopping) {
            return false;
        } else {
            pthread_cond_wait(&store->wake, &store->lock);
        }
    }
    return true;
}

static void *writer_main(void *argument) {
    struct store *store = argument;
    pthread_mutex_lock(&store->lock);
    while (wait_for_work(store)) {
        struct store_command *commands = store->first;
        struct store_pending *pending = store->pending;
        size_t pending_count = store->pending_count;
        store->first = store->last = NULL;
        store->pending = NULL;
        store->pending_count = 0;
        store->busy_since = clock_seconds();
        pthread_mutex_unlock(&store->lock);
        write_batch(store, commands, pending, pending_count);
        pthread_mutex_lock(&store->lock);
        store->busy_since = 0;
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

double store_stalled_s(struct store *store) {
    pthread_mutex_lock(&store->lock);
    const double seconds = store->busy_since > 0 ? clock_seconds() - store->busy_since : 0;
    pthread_mutex_unlock(&store->lock);
    return seconds;
}

enum status store_writer_start(struct store *store, struct error *error) {
    int code = pthread_create(&store->writer, NULL, writer_main, store);
    if (code != 0) {
        errno = code;
        return error_io(error, "writer", "failed to start the writer thread");
    }
    pthread_mutex_lock(&store->lock);
    store->writer_started = true;
    pthread_mutex_unlock(&store->lock);
    return STATUS_OK;
}

void store_writer_stop(struct store *store) {
    pthread_mutex_lock(&store->lock);
    bool started = store->writer_started;
    store->stopping = true;
    pthread_cond_signal(&store->wake);
    pthread_mutex_unlock(&store->lock);
    if (started) {
        pthread_join(store->writer, NULL);
    }
}
