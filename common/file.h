/* Files: whole reads with a limit, atomic writes (temporary file, fsync, rename, fsync of the folder), folders. */
#ifndef ONP_COMMON_FILE_H
#define ONP_COMMON_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* Reads a regular file of at most `max` bytes. *data is the caller's (mem_free()) and has a NUL after its end. */
enum status file_read(const char *path, size_t max, char **data, size_t *length, struct error *error);
/* Replaces `path` as a whole: readers see the old content or the new, never a part, even after a crash. */
enum status file_write_atomic(const char *path, const void *data, size_t length, struct error *error);
/* write(2) until all is written; false with errno set. */
bool file_write_all(int fd, const void *data, size_t length);
enum status file_copy(const char *from, const char *to, struct error *error);
enum status file_make_dir(const char *path, struct error *error); /* and its parents; existing is fine */
/* Removes a folder of files and folders (bounded depth, links not followed); a missing one is fine. */
enum status file_remove_tree(const char *path, struct error *error);
enum status file_sync_dir(const char *path, struct error *error);
/* "dir/name" into `out`; STATUS_LIMIT if it does not fit. */
enum status file_join(char *out, size_t size, const char *dir, const char *name, struct error *error);

#endif
