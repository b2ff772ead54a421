/* The journal file. Records are appended with one write each and never changed, so a process that is killed leaves whole
 * records and at most one torn one; the chain of checksums finds that, and also what a power cut may have left unwritten. */
#include "server/mitigate/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"

enum { DIGEST_LENGTH = DIGEST_HEX_SIZE - 1 };
static const char magic[8] = {'O', 'N', 'P', 'J', 'O', 'B', '0', '1'}; /* with the version of the format */

/* Both are multiples of 8 bytes without holes, so they are written as they are. */
struct file_header {
    char magic[8];
    char binding[DIGEST_LENGTH];
};
struct record_header {
    uint64_t kind, size;
    char key[DIGEST_LENGTH];
};

struct checkpoint {
    int file;
    uint64_t end, max_bytes; /* end: where the next record is, or will be */
    bool recalling;          /* there may be more to recall */
    bool recording;          /* the disk has refused nothing yet */
    char chain[DIGEST_HEX_SIZE];
    size_t recalled, kept;
};

static bool read_at(const struct checkpoint *c, uint64_t at, void *data, size_t size) {
    char *to = data;
    for (size_t done = 0; done < size;) {
        const ssize_t got = pread(c->file, to + done, size - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        done += (size_t)got;
    }
    return true;
}

/* The checksum of a record: of the one before it, its header and its bytes. */
static bool chain_of(const struct checkpoint *c, const struct record_header *header, const void *result, size_t size,
                     char out[DIGEST_HEX_SIZE]) {
    struct digest *digest = digest_new();
    if (digest == NULL) {
        return false;
    }
    digest_update(digest, c->chain, DIGEST_LENGTH);
    digest_update(digest, header, sizeof *header);
    digest_update(digest, result, size);
    digest_finish(digest, out);
    digest_free(digest);
    return true;
}

/* From here on it is written. What follows is cut off, so that it can never be taken for a continuation. */
static void stop_recalling(struct checkpoint *c) {
    c->recalling = false;
    c->recording = c->recording && ftruncate(c->file, (off_t)c->end) == 0 &&
                   lseek(c->file, (off_t)c->end, SEEK_SET) == (off_t)c->end;
}

static void begin(struct checkpoint *c, const struct file_header *wanted) {
    struct file_header found;
    c->end = sizeof found;
    c->recording = c->recalling = true;
    memcpy(c->chain, wanted->binding, DIGEST_LENGTH);
    if (read_at(c, 0, &found, sizeof found) && memcmp(&found, wanted, sizeof found) == 0) {
        return;
    }
    c->end = 0;
    stop_recalling(c);
    c->recording = c->recording && file_write_all(c->file, wanted, sizeof *wanted);
    c->end = sizeof *wanted;
}

enum status checkpoint_open(const char *path, const char *binding, uint64_t max_bytes, struct checkpoint **out,
                            struct error *error) {
    struct file_header wanted;
    struct stat info;
    char digest[DIGEST_HEX_SIZE];
    struct checkpoint *c = mem_calloc(1, sizeof *c);
    if (c == NULL) {
        return error_no_memory(error, "a checkpoint");
    }
    c->max_bytes = max_bytes;
    c->file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (c->file < 0 || fstat(c->file, &info) != 0 || !S_ISREG(info.st_mode)) {
        const enum status status = error_io(error, "checkpoint", "failed to open the checkpoint");
        checkpoint_close(c);
        return status;
    }
    digest_bytes(binding, strlen(binding), digest);
    memcpy(wanted.magic, magic, sizeof magic);
    memcpy(wanted.binding, digest, DIGEST_LENGTH);
    begin(c, &wanted);
    *out = c;
    return STATUS_OK;
}

void checkpoint_close(struct checkpoint *c) {
    if (c == NULL) {
        return;
    }
    if (c->file >= 0) {
        (void)close(c->file);
    }
    mem_free(c);
}

bool checkpoint_recall(struct checkpoint *c, enum checkpoint_kind kind, const char key[DIGEST_HEX_SIZE], void *result,
                       size_t size) {
    struct record_header header;
    char kept[DIGEST_LENGTH], chain[DIGEST_HEX_SIZE];
    if (c == NULL || !c->recalling) {
        return false;
    }
    /* Into memory of our own first: a caller's state must not be half overwritten by a torn record. */
    char *bytes = mem_alloc(size, 1);
    const bool found = bytes != NULL && read_at(c, c->end, &header, sizeof header) && header.kind == (uint64_t)kind &&
                       header.size == size && memcmp(header.key, key, DIGEST_LENGTH) == 0 &&
                       read_at(c, c->end + sizeof header, bytes, size) &&
                       read_at(c, c->end + sizeof header + size, kept, sizeof kept) &&
                       chain_of(c, &header, bytes, size, chain) && memcmp(chain, kept, DIGEST_LENGTH) == 0;
    if (found) {
        memcpy(result, bytes, size);
        memcpy(c->chain, chain, sizeof chain);
        c->end += sizeof header + size + DIGEST_LENGTH;
        c->recalled++;
    } else {
        stop_recalling(c);
    }
    mem_free(bytes);
    return found;
}

void checkpoint_keep(struct checkpoint *c, enum checkpoint_kind kind, const char key[DIGEST_HEX_SIZE],
                     const void *result, size_t size) {
    struct record_header header = {.kind = (uint64_t)kind, .size = size};
    char chain[DIGEST_HEX_SIZE];
    const size_t whole = sizeof header + size + DIGEST_LENGTH;
    if (c == NULL || !c->recording) {
        return;
    }
    if (c->recalling) {
        stop_recalling(c);
    }
    memcpy(header.key, key, DIGEST_LENGTH);
    /* One write, so that a kill leaves it whole or not at all. */
    char *record = whole <= c->max_bytes && c->end <= c->max_bytes - whole ? mem_alloc(whole, 1) : NULL;
    c->recording = c->recording && record != NULL && chain_of(c, &header, result, size, chain);
    if (c->recording) {
        memcpy(record, &header, sizeof header);
        memcpy(record + sizeof header, result, size);
        memcpy(record + sizeof header + size, chain, DIGEST_LENGTH);
        c->recording = file_write_all(c->file, record, whole);
    }
    if (c->recording) {
        memcpy(c->chain, chain, sizeof chain);
        c->end += whole;
        c->kept++;
    } /* else a torn record may stay at the end: its checksum tells */
    mem_free(record);
}

void checkpoint_sync(struct checkpoint *c) {
    if (c != NULL && c->kept > 0) {
        (void)fdatasync(c->file); /* a checkpoint that is lost costs time, nothing else */
    }
}

size_t checkpoint_recalled(const struct checkpoint *c) {
    return c != NULL ? c->recalled : 0;
}

size_t checkpoint_kept(const struct checkpoint *c) {
    return c != NULL ? c->kept : 0;
}
