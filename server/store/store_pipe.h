/* Bytes on their way into a file, hashed and written by a thread of their own, so that whoever receives them never waits for the
 * disk. Used inside the store only. */
#ifndef ONP_SERVER_STORE_STORE_PIPE_H
#define ONP_SERVER_STORE_STORE_PIPE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/digest.h"

/* What a pipe holds at most, in chunks that change hands as a whole. */
enum { STORE_PIPE_CHUNK = 512 << 10, STORE_PIPE_CHUNKS = 8 };

struct store_pipe;

/* Starts the thread. `fd` and `digest` are borrowed until store_pipe_close() and the thread's alone as long; `room` (may be NULL) is
 * called from it with no lock held, once half of the pipe is empty, after store_pipe_is_full() said true. NULL without memory or thread. */
struct store_pipe *store_pipe_open(int fd, struct digest *digest, void (*room)(void *user), void *user);
/* Takes a copy of the bytes; waits while there is no room. After an error of the file they are dropped, which
 * store_pipe_has_failed() and store_pipe_close() tell. */
void store_pipe_put(struct store_pipe *pipe, const void *data, size_t length);
/* Whether a put of STORE_PIPE_CHUNK bytes would have to wait now; if so, `room` will be called. */
bool store_pipe_is_full(struct store_pipe *pipe);
bool store_pipe_has_failed(struct store_pipe *pipe);
/* Ends the thread, after all bytes were hashed and written unless `drop`, and frees the pipe. False with errno set: something could
 * not be written. */
bool store_pipe_close(struct store_pipe *pipe, bool drop);

#endif
