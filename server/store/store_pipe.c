/* A ring of chunks between the thread that receives an upload and the one that hashes and writes it. Each chunk is with one of the
 * two: filled by the receiver, then counted into `ready` under the lock, and from then on only read by the writer, until it is
 * counted out. The kernel is told to start writing to the disk every few chunks, so that the sync at the end has little left. */
#include "server/store/store_pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"

enum {
    FLUSH_CHUNKS = 16,
    ROOM_AT = STORE_PIPE_CHUNKS / 2
}; /* the sides change places seldom: each time costs a switch */

struct store_pipe {
    int fd;
    struct digest *digest;
    void (*room)(void *user);
    void *user;
    pthread_t thread;

    size_t filling; /* the receiver's: which chunk, and how far it is full */
    size_t filled;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t first, ready; /* chunks [first, first + ready) wait for the writer; the last may be shorter at the end */
    size_t last_length;  /* of the last one, once `closing` */
    bool closing, drop, wanted;
    int cause; /* errno of the first failure; 0: none */

    unsigned char chunks[STORE_PIPE_CHUNKS][STORE_PIPE_CHUNK];
};

/* Writer thread, without the lock; `flushed` and `end` are of the file. Returns errno, or 0. */
static int use_chunk(const struct store_pipe *pipe, const unsigned char *bytes, size_t length, off_t *flushed,
                     off_t *end) {
    digest_update(pipe->digest, bytes, length);
    if (!file_write_all(pipe->fd, bytes, length)) {
        return errno;
    }
    *end += (off_t)length;
    if (*end - *flushed >= (off_t)FLUSH_CHUNKS * STORE_PIPE_CHUNK) {
        /* Only advice: the sync at the end is what counts. */
        (void)sync_file_range(pipe->fd, *flushed, *end - *flushed, SYNC_FILE_RANGE_WRITE);
        *flushed = *end;
    }
    return 0;
}

static void *writer_main(void *user) {
    struct store_pipe *pipe = user;
    off_t flushed = 0;
    off_t end = lseek(pipe->fd, 0, SEEK_CUR);
    pthread_mutex_lock(&pipe->lock);
    while (true) {
        while (pipe->ready == 0 && !pipe->closing) {
            pthread_cond_wait(&pipe->changed, &pipe->lock);
        }
        if (pipe->ready == 0 || pipe->drop) {
            break;
        }
        const size_t length = pipe->closing && pipe->ready == 1 ? pipe->last_length : STORE_PIPE_CHUNK;
        const unsigned char *bytes = pipe->chunks[pipe->first];
        int cause = pipe->cause;
        pthread_mutex_unlock(&pipe->lock);
        if (cause == 0) {
            cause = use_chunk(pipe, bytes, length, &flushed, &end);
        }
        pthread_mutex_lock(&pipe->lock);
        pipe->cause = cause;
        pipe->first = (pipe->first + 1) % STORE_PIPE_CHUNKS;
        pipe->ready--;
        pthread_cond_signal(&pipe->changed);
        if (pipe->wanted && pipe->ready <= ROOM_AT) {
            pipe->wanted = false;
            pthread_mutex_unlock(&pipe->lock);
            pipe->room(pipe->user);
            pthread_mutex_lock(&pipe->lock);
        }
    }
    pthread_mutex_unlock(&pipe->lock);
    return NULL;
}

struct store_pipe *store_pipe_open(int fd, struct digest *digest, void (*room)(void *user), void *user) {
    struct store_pipe *pipe = mem_alloc(1, sizeof(*pipe));
    if (pipe == NULL) {
        return NULL;
    }
    memset(pipe, 0, offsetof(struct store_pipe, chunks)); /* memory that is not touched yet costs nothing */
    pipe->fd = fd;
    pipe->digest = digest;
    pipe->room = room;
    pipe->user = user;
    if (pthread_mutex_init(&pipe->lock, NULL) != 0) {
        goto no_lock;
    }
    if (pthread_cond_init(&pipe->changed, NULL) != 0) {
        goto no_condition;
    }
    if (pthread_create(&pipe->thread, NULL, writer_main, pipe) == 0) {
        return pipe;
    }
    pthread_cond_destroy(&pipe->changed);
no_condition:
    pthread_mutex_destroy(&pipe->lock);
no_lock:
    mem_free(pipe);
    return NULL;
}

/* The chunk that was filled goes to the writer; waits until there is another to fill. */
static void hand_over(struct store_pipe *pipe) {
    pthread_mutex_lock(&pipe->lock);
    pipe->ready++;
    pthread_cond_signal(&pipe->changed);
    while (pipe->ready == STORE_PIPE_CHUNKS) {
        pthread_cond_wait(&pipe->changed, &pipe->lock);
    }
    pthread_mutex_unlock(&pipe->lock);
    pipe->filling = (pipe->filling + 1) % STORE_PIPE_CHUNKS;
    pipe->filled = 0;
}

void store_pipe_put(struct store_pipe *pipe, const void *data, size_t length) {
    const unsigned char *from = data;
    while (length > 0) {
        size_t part = STORE_PIPE_CHUNK - pipe->filled;
        part = part < length ? part : length;
        memcpy(pipe->chunks[pipe->filling] + pipe->filled, from, part);
        pipe->filled += part;
        from += part;
        length -= part;
        if (pipe->filled == STORE_PIPE_CHUNK) {
            hand_over(pipe);
        }
    }
}

bool store_pipe_is_full(struct store_pipe *pipe) {
    pthread_mutex_lock(&pipe->lock);
    /* One chunk is being filled, and the bytes to come may want one more. */
    const bool full = pipe->ready >= STORE_PIPE_CHUNKS - 1;
    pipe->wanted = full && pipe->room != NULL;
    pthread_mutex_unlock(&pipe->lock);
    return full;
}

bool store_pipe_has_failed(struct store_pipe *pipe) {
    pthread_mutex_lock(&pipe->lock);
    errno = pipe->cause;
    pthread_mutex_unlock(&pipe->lock);
    return errno != 0;
}

bool store_pipe_close(struct store_pipe *pipe, bool drop) {
    pthread_mutex_lock(&pipe->lock);
    pipe->closing = true;
    pipe->drop = drop;
    pipe->wanted = false;
    pipe->last_length = STORE_PIPE_CHUNK;
    if (pipe->filled > 0) {
        pipe->ready++;
        pipe->last_length = pipe->filled;
    }
    pthread_cond_signal(&pipe->changed);
    pthread_mutex_unlock(&pipe->lock);
    pthread_join(pipe->thread, NULL);
    const int cause = pipe->cause;
    pthread_cond_destroy(&pipe->changed);
    pthread_mutex_destroy(&pipe->lock);
    mem_free(pipe);
    errno = cause;
    return cause == 0;
}
