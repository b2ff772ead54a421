/* Persistent worker threads. A run is one generation: the caller publishes the task under the lock, wakes the workers and
 * works along as thread 0; indices are taken from an atomic counter. The lock guards everything but that counter. */
#include "server/nn/pool.h"

#include <cblas.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/mem.h"

enum { POOL_THREADS_MAX = 1024 };

struct worker {
    struct pool *pool;
    pthread_t handle;
    size_t thread; /* 1-based: thread 0 is the caller of pool_run() */
};

struct pool {
    size_t threads;
    struct worker *workers; /* threads - 1 */
    size_t started;
    pthread_mutex_t lock;
    pthread_cond_t work; /* a new generation, or stopping */
    pthread_cond_t idle; /* `busy` became 0 */
    bool stopping;
    uint64_t generation;
    size_t busy; /* workers that have not finished this generation */
    void (*task)(void *user, size_t index, size_t thread);
    void *user;
    size_t count;
    atomic_size_t next;
};

static void take_indices(struct pool *pool, size_t thread) {
    for (;;) {
        size_t index = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (index >= pool->count) {
            return;
        }
        pool->task(pool->user, index, thread);
    }
}

static void *work(void *argument) {
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    uint64_t seen = 0;

    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->stopping && pool->generation == seen) {
            pthread_cond_wait(&pool->work, &pool->lock);
        }
        if (pool->stopping) {
            break;
        }
        seen = pool->generation;
        /* task, user and count stay as they are until `busy` is 0, so they may be read without the lock. */
        pthread_mutex_unlock(&pool->lock);
        take_indices(pool, worker->thread);
        pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0) {
            pthread_cond_signal(&pool->idle);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static size_t count_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        return 1;
    }
    int cores = CPU_COUNT(&set);
    return cores > 0 ? (size_t)cores : 1;
}

enum status pool_new(size_t threads, struct pool **out, struct error *error) {
    struct pool *pool = NULL;
    enum status status = STATUS_OK;

    if (threads == 0) {
        threads = count_cores();
    }
    if (threads > POOL_THREADS_MAX) {
        return error_set(error, STATUS_LIMIT, "", "failed to start threads: got %zu, expected at most %d", threads,
                         POOL_THREADS_MAX);
    }
    openblas_set_num_threads(1);
    pool = mem_calloc(1, sizeof *pool);
    if (pool == NULL) {
        return error_no_memory(error, "thread pool");
    }
    pool->threads = threads;
    atomic_init(&pool->next, 0);
    if (pthread_mutex_init(&pool->lock, NULL) != 0) {
        mem_free(pool);
        return error_no_memory(error, "thread pool");
    }
    /* On Linux initialising a condition variable with default attributes cannot fail. */
    (void)pthread_cond_init(&pool->work, NULL);
    (void)pthread_cond_init(&pool->idle, NULL);
    pool->workers = mem_calloc(threads, sizeof *pool->workers);
    if (pool->workers == NULL) {
        status = error_no_memory(error, "thread pool");
        goto fail;
    }
    for (size_t i = 0; i + 1 < threads; i++) {
        struct worker *worker = &pool->workers[i];
        *worker = (struct worker){.pool = pool, .thread = i + 1};
        int failed = pthread_create(&worker->handle, NULL, work, worker);
        if (failed != 0) {
            char reason[128];
            status = error_set(error, STATUS_UNAVAILABLE, "", "failed to start thread %zu of %zu: got '%s'", i + 1,
                               threads, strerror_r(failed, reason, sizeof reason));
            goto fail;
        }
        pool->started++;
    }
    *out = pool;
    return STATUS_OK;

fail:
    pool_free(pool);
    return status;
}

void pool_free(struct pool *pool) {
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->started; i++) {
        pthread_join(pool->workers[i].handle, NULL);
    }
    pthread_cond_destroy(&pool->idle);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    mem_free(pool->workers);
    mem_free(pool);
}

size_t pool_threads(const struct pool *pool) {
    return pool->threads;
}

void pool_run(struct pool *pool, size_t count, void (*task)(void *user, size_t index, size_t thread), void *user) {
    if (count <= 1 || pool->threads == 1) { /* nothing to share: waking the others would only cost */
        for (size_t i = 0; i < count; i++) {
            task(user, i, 0);
        }
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->task = task;
    pool->user = user;
    pool->count = count;
    pool->busy = pool->threads - 1;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    pool->generation++;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);

    take_indices(pool, 0);

    pthread_mutex_lock(&pool->lock);
    while (pool->busy > 0) {
        pthread_cond_wait(&pool->idle, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
}
