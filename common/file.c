/* Files. Everything that must survive a crash is written to a temporary file in the same folder, synced, renamed over
 * the old one, and the folder synced: that order is what makes the replacement atomic and durable. */
#include "common/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/id.h"
#include "common/mem.h"

enum { COPY_CHUNK = 64 * 1024, FIRST_READ = 4096, TREE_DEPTH_MAX = 32 };

/* read(2) that is not disturbed by signals. */
static ssize_t read_some(int fd, void *data, size_t size) {
    ssize_t got = 0;
    do {
        got = read(fd, data, size);
    } while (got < 0 && errno == EINTR);
    return got;
}

/* Opens a regular file for reading. O_NONBLOCK so that a FIFO in its place cannot hang the caller. */
static enum status open_regular(const char *path, int *out, struct stat *info, struct error *error) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        enum status status = errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO;
        if (status == STATUS_NOT_FOUND) {
            return error_set(error, status, NULL, "failed to open file %s: got no such file, expected one", path);
        }
        return error_io(error, NULL, "failed to open file %s", path);
    }
    if (fstat(fd, info) != 0) {
        enum status status = error_io(error, NULL, "failed to examine file %s", path);
        (void)close(fd);
        return status;
    }
    if (!S_ISREG(info->st_mode)) {
        (void)close(fd);
        return error_set(error, STATUS_INVALID, NULL, "failed to open file %s: got another kind, expected a file",
                         path);
    }
    *out = fd;
    return STATUS_OK;
}

static enum status too_large(const char *path, size_t max, struct error *error) {
    return error_set(error, STATUS_LIMIT, NULL, "failed to read file %s: got more bytes, expected at most %zu", path,
                     max);
}

/* Reads to the end of the file, whatever its size was said to be, with one byte more than `max` as the limit. */
static enum status read_to_end(int fd, const char *path, size_t max, size_t capacity, char **data, size_t *length,
                               struct error *error) {
    size_t used = 0;
    char *block = mem_alloc(capacity + 1, 1);
    if (block == NULL) {
        return error_no_memory(error, "the content of a file");
    }
    for (;;) {
        if (used == capacity) {
            size_t grown = capacity > PTRDIFF_MAX / 2 ? PTRDIFF_MAX - 1 : capacity * 2;
            char *larger = mem_realloc(block, grown + 1, 1);
            if (larger == NULL) {
                mem_free(block);
                return error_no_memory(error, "the content of a file");
            }
            block = larger;
            capacity = grown;
        }
        ssize_t got = read_some(fd, block + used, capacity - used);
        if (got < 0) {
            mem_free(block);
            return error_io(error, NULL, "failed to read file %s", path);
        }
        if (got == 0) {
            break;
        }
        used += (size_t)got;
        if (used > max) {
            mem_free(block);
            return too_large(path, max, error);
        }
    }
    block[used] = '\0';
    *data = block;
    *length = used;
    return STATUS_OK;
}

enum status file_read(const char *path, size_t max, char **data, size_t *length, struct error *error) {
    int fd = -1;
    struct stat info = {0};
    enum status status = open_regular(path, &fd, &info, error);
    if (status != STATUS_OK) {
        return status;
    }
    if ((uintmax_t)info.st_size > max) {
        status = too_large(path, max, error);
    } else {
        /* One byte more than the size, so that the read that finds the end needs no growth. */
        size_t capacity = info.st_size > 0 ? (size_t)info.st_size + 1 : FIRST_READ;
        status = read_to_end(fd, path, max, capacity, data, length, error);
    }
    (void)close(fd);
    return status;
}

bool file_write_all(int fd, const void *data, size_t length) {
    const char *at = data;
    while (length > 0) {
        ssize_t written = write(fd, at, length);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return false;
        }
        at += written;
        length -= (size_t)written;
    }
    return true;
}

/* A new file beside `path`; its mode follows the umask, as that of any file the user makes. */
static enum status open_temporary(const char *path, char temporary[PATH_MAX], int *out, struct error *error) {
    char id[ID_SIZE];
    id_make("tmp", id);
    int length = snprintf(temporary, PATH_MAX, "%s.%s", path, id);
    if (length < 0 || length >= PATH_MAX) {
        return error_set(error, STATUS_LIMIT, NULL, "failed to write file %.64s: got a longer path, expected %d bytes",
                         path, PATH_MAX);
    }
    *out = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return *out >= 0 ? STATUS_OK : error_io(error, NULL, "failed to create file %s", temporary);
}

/* The folder part of `path`, "." if there is none. */
static void parent_of(const char *path, char out[PATH_MAX]) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        (void)snprintf(out, PATH_MAX, ".");
    } else if (slash == path) {
        (void)snprintf(out, PATH_MAX, "/");
    } else {
        (void)snprintf(out, PATH_MAX, "%.*s", (int)(slash - path), path);
    }
}

/* Ends what open_temporary() began: on `status` OK makes it durable and puts it in place, else removes it. */
static enum status finish_temporary(int fd, const char *temporary, const char *path, enum status status,
                                    struct error *error) {
    char parent[PATH_MAX];
    if (status == STATUS_OK && fsync(fd) != 0) {
        status = error_io(error, NULL, "failed to sync file %s", temporary);
    }
    if (close(fd) != 0 && status == STATUS_OK) {
        status = error_io(error, NULL, "failed to close file %s", temporary);
    }
    if (status == STATUS_OK && rename(temporary, path) != 0) {
        status = error_io(error, NULL, "failed to rename a file to %s", path);
    }
    if (status != STATUS_OK) {
        (void)unlink(temporary);
        return status;
    }
    parent_of(path, parent);
    return file_sync_dir(parent, error);
}

enum status file_write_atomic(const char *path, const void *data, size_t length, struct error *error) {
    char temporary[PATH_MAX];
    int fd = -1;
    enum status status = open_temporary(path, temporary, &fd, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (!file_write_all(fd, data, length)) {
        status = error_io(error, NULL, "failed to write file %s", temporary);
    }
    return finish_temporary(fd, temporary, path, status, error);
}

static enum status copy_bytes(int in, int out, const char *from, const char *to, struct error *error) {
    enum status status = STATUS_OK;
    char *chunk = mem_alloc(COPY_CHUNK, 1);
    if (chunk == NULL) {
        return error_no_memory(error, "a copy buffer");
    }
    while (status == STATUS_OK) {
        ssize_t got = read_some(in, chunk, COPY_CHUNK);
        if (got == 0) {
            break;
        }
        if (got < 0) {
            status = error_io(error, NULL, "failed to read file %s", from);
        } else if (!file_write_all(out, chunk, (size_t)got)) {
            status = error_io(error, NULL, "failed to write file %s", to);
        }
    }
    mem_free(chunk);
    return status;
}

enum status file_copy(const char *from, const char *to, struct error *error) {
    char temporary[PATH_MAX];
    struct stat info = {0};
    int in = -1;
    int out = -1;
    enum status status = open_regular(from, &in, &info, error);
    if (status != STATUS_OK) {
        return status;
    }
    status = open_temporary(to, temporary, &out, error);
    if (status == STATUS_OK) {
        status = copy_bytes(in, out, from, to, error);
        status = finish_temporary(out, temporary, to, status, error);
    }
    (void)close(in);
    return status;
}

enum status file_make_dir(const char *path, struct error *error) {
    char part[PATH_MAX];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part) {
        return error_set(error, STATUS_INVALID, NULL, "failed to make folder %.64s: got %zu bytes, expected 1 to %d",
                         path, length, PATH_MAX - 1);
    }
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            return error_io(error, NULL, "failed to make folder %s", part);
        }
    }
    struct stat info;
    if (stat(path, &info) != 0) {
        return error_io(error, NULL, "failed to examine folder %s", path);
    }
    if (!S_ISDIR(info.st_mode)) {
        return error_set(error, STATUS_CONFLICT, NULL, "failed to make folder %s: got a file of that name", path);
    }
    return STATUS_OK;
}

/* One open folder on the way down a tree. */
struct level {
    DIR *dir;
    char name[NAME_MAX + 1]; /* its name in the folder above */
};

/* Opens `name` under `parent` as a folder, never through a link. */
static DIR *open_level(int parent, const char *name) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        int saved = errno;
        (void)close(fd);
        errno = saved;
    }
    return dir;
}

/* Takes one entry of the deepest level: a file goes away, a folder becomes the next level. */
static enum status remove_entry(struct level *levels, size_t *depth, const char *name, struct error *error) {
    int fd = dirfd(levels[*depth - 1].dir);
    if (unlinkat(fd, name, 0) == 0 || errno == ENOENT) {
        return STATUS_OK;
    }
    if (errno != EISDIR && errno != EPERM) {
        return error_io(error, NULL, "failed to remove file %s", name);
    }
    if (*depth == TREE_DEPTH_MAX) {
        return error_set(error, STATUS_LIMIT, NULL, "failed to remove folder %s: got more than %d levels", name,
                         TREE_DEPTH_MAX);
    }
    DIR *dir = open_level(fd, name);
    if (dir == NULL) {
        return error_io(error, NULL, "failed to open folder %s", name);
    }
    struct level *next = &levels[(*depth)++];
    next->dir = dir;
    (void)snprintf(next->name, sizeof next->name, "%s", name);
    return STATUS_OK;
}

/* Walks with its own stack, so that the depth of a tree is a number we choose and not the C stack's. */
static enum status empty_tree(struct level *levels, struct error *error) {
    enum status status = STATUS_OK;
    size_t depth = 1;
    while (depth > 0 && status == STATUS_OK) {
        struct level *top = &levels[depth - 1];
        errno = 0;
        const struct dirent *entry = readdir(top->dir);
        if (entry != NULL) {
            if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
                status = remove_entry(levels, &depth, entry->d_name, error);
            }
            continue;
        }
        if (errno != 0) {
            status = error_io(error, NULL, "failed to list folder %s", top->name);
            break;
        }
        (void)closedir(top->dir);
        depth--;
        if (depth > 0 && unlinkat(dirfd(levels[depth - 1].dir), top->name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
            status = error_io(error, NULL, "failed to remove folder %s", top->name);
        }
    }
    while (depth > 0) {
        (void)closedir(levels[--depth].dir);
    }
    return status;
}

enum status file_remove_tree(const char *path, struct error *error) {
    if (unlink(path) == 0 || errno == ENOENT) {
        return STATUS_OK; /* a file or a link: gone; or nothing was there */
    }
    if (errno != EISDIR && errno != EPERM) {
        return error_io(error, NULL, "failed to remove %s", path);
    }
    struct level *levels = mem_calloc(TREE_DEPTH_MAX, sizeof *levels);
    if (levels == NULL) {
        return error_no_memory(error, "a walk over folders");
    }
    enum status status = STATUS_OK;
    levels[0].dir = open_level(AT_FDCWD, path);
    if (levels[0].dir == NULL) {
        status = error_io(error, NULL, "failed to open folder %s", path);
    } else {
        status = empty_tree(levels, error);
    }
    if (status == STATUS_OK && rmdir(path) != 0 && errno != ENOENT) {
        status = error_io(error, NULL, "failed to remove folder %s", path);
    }
    mem_free(levels);
    return status;
}

enum status file_sync_dir(const char *path, struct error *error) {
    enum status status = STATUS_OK;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return error_io(error, NULL, "failed to open folder %s", path);
    }
    if (fsync(fd) != 0 && errno != EINVAL) { /* some file systems have no sync of folders */
        status = error_io(error, NULL, "failed to sync folder %s", path);
    }
    (void)close(fd);
    return status;
}

enum status file_join(char *out, size_t size, const char *dir, const char *name, struct error *error) {
    size_t length = strlen(dir);
    const char *separator = length > 0 && dir[length - 1] == '/' ? "" : "/";
    int written = snprintf(out, size, "%s%s%s", dir, separator, name);
    if (written < 0 || (size_t)written >= size) {
        return error_set(error, STATUS_LIMIT, NULL, "failed to join path %.64s and %.64s: got %d bytes, expected %zu",
                         dir, name, written, size);
    }
    return STATUS_OK;
}
