/* Zips of pictures. A zip is a list of claims: names, sizes and places are checked against limits and against each other before a
 * byte is unpacked, what comes out is checked against what was claimed, and a picture's dimensions are read from its header and
 * checked before memory for its pixels is asked for. */
#include "server/data/images.h"

#include <fcntl.h>
#include <spng.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <turbojpeg.h>
#include <unistd.h>
#include <zip.h>

#include "common/mem.h"

enum {
    ENTRIES_MAX = 100000,
    NAME_BYTES_MAX = 255,
    CLASSES_MAX = 10000,
    PICTURE_BYTES_MAX = 32 << 20, /* of one packed picture */
    RATIO_MAX = 200,
    RATIO_FREE = 1 << 20, /* small entries may be packed tighter */
    SIDE_MAX = 4096,
    CHANNELS = 3
};

enum kind { KIND_NONE, KIND_PNG, KIND_JPEG };

struct entry {
    char *name;    /* copied */
    size_t folder; /* bytes of the name before the slash */
    zip_uint64_t index;
    size_t size;
    enum kind kind;
};

struct reading {
    zip_t *zip;
    tjhandle jpeg;
    struct entry *entries;
    size_t count, file_bytes;
    const struct samples_limits *limits;
    struct error *error;
};

static enum kind kind_of(const char *name) {
    const char *dot = strrchr(name, '.');
    if (dot == NULL) {
        return KIND_NONE;
    }
    if (strcasecmp(dot, ".png") == 0) {
        return KIND_PNG;
    }
    return strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0 ? KIND_JPEG : KIND_NONE;
}

/* Opens by a descriptor that is known to be a file; NULL if it is none or no zip. */
static zip_t *open_zip(const char *path, size_t *bytes) {
    struct stat info;
    int code = 0;
    zip_t *zip = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
        *bytes = (size_t)info.st_size;
        zip = zip_fdopen(fd, 0, &code); /* takes the descriptor if it succeeds */
    }
    if (zip == NULL && fd >= 0) {
        (void)close(fd);
    }
    return zip;
}

bool images_is_archive(const char *path) {
    size_t bytes = 0;
    bool found = false;
    zip_t *zip = open_zip(path, &bytes);
    zip_int64_t count = zip != NULL ? zip_get_num_entries(zip, 0) : 0;
    for (zip_int64_t i = 0; i < count && i < ENTRIES_MAX; i++) {
        const char *name = zip_get_name(zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        size_t length = name != NULL ? strlen(name) : 0;
        if (length > 0 && name[length - 1] != '/') {
            found = kind_of(name) != KIND_NONE;
            break;
        }
    }
    if (zip != NULL) {
        zip_discard(zip);
    }
    return found;
}

/* "class/image.png": two parts of plain letters, neither of them "..", "." or hidden. */
static bool name_is_clean(const char *name) {
    static const char ALLOWED[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t folder = strspn(name, ALLOWED);
    return folder > 0 && name[0] != '.' && name[folder] == '/' && name[folder + 1] != '.' && name[folder + 1] != '\0' &&
           name[folder + 1 + strspn(name + folder + 1, ALLOWED)] == '\0';
}

static enum status bad_zip(struct reading *reading, const char *place, zip_error_t *why) {
    enum status status = zip_error_code_zip(why) == ZIP_ER_MEMORY ? STATUS_NO_MEMORY : STATUS_INVALID;
    return error_set(reading->error, status, place, "failed to read the zip%s%s: got %s",
                     place != NULL ? " entry " : "", place != NULL ? place : "", zip_error_strerror(why));
}

static enum status check_sizes(struct reading *reading, const char *name, const zip_stat_t *stat) {
    const zip_uint64_t needed = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    if ((stat->valid & needed) != needed ||
        (stat->comp_method != ZIP_CM_STORE && stat->comp_method != ZIP_CM_DEFLATE) ||
        stat->encryption_method != ZIP_EM_NONE) {
        return error_set(reading->error, STATUS_UNSUPPORTED, name,
                         "failed to read %s: got another compression or encryption, expected stored or deflated", name);
    }
    if (stat->size == 0 || stat->size > PICTURE_BYTES_MAX) {
        return error_set(reading->error, STATUS_LIMIT, name,
                         "failed to read %s: got %llu bytes, expected a picture of at most %d", name,
                         (unsigned long long)stat->size, PICTURE_BYTES_MAX);
    }
    if ((stat->size > RATIO_FREE && stat->size / RATIO_MAX > stat->comp_size) ||
        stat->comp_size > reading->file_bytes) {
        return error_set(reading->error, STATUS_LIMIT, name,
                         "failed to read %s: got %llu bytes packed into %llu, expected a ratio of at most %d", name,
                         (unsigned long long)stat->size, (unsigned long long)stat->comp_size, RATIO_MAX);
    }
    return STATUS_OK;
}

static enum status take_entry(struct reading *reading, zip_uint64_t index, uint64_t *packed) {
    zip_stat_t stat;
    zip_stat_init(&stat);
    if (zip_stat_index(reading->zip, index, ZIP_FL_ENC_RAW, &stat) != 0) {
        return bad_zip(reading, NULL, zip_get_error(reading->zip));
    }
    size_t length = (stat.valid & ZIP_STAT_NAME) != 0 ? strlen(stat.name) : 0;
    if (length > 0 && length <= NAME_BYTES_MAX && stat.name[length - 1] == '/' && stat.size == 0) {
        return STATUS_OK; /* a folder, said again by the names in it */
    }
    if (length == 0 || length > NAME_BYTES_MAX || !name_is_clean(stat.name) || kind_of(stat.name) == KIND_NONE) {
        return error_set(reading->error, STATUS_INVALID, length > 0 ? stat.name : NULL,
                         "failed to read the zip: got the entry '%.100s', expected CLASS/IMAGE.png or .jpg of letters, "
                         "digits and ._-",
                         length > 0 ? stat.name : "");
    }
    enum status status = check_sizes(reading, stat.name, &stat);
    if (status != STATUS_OK) {
        return status;
    }
    /* Entries that lie over each other unpack the same bytes many times over: together they claim more than the file has. */
    *packed += stat.comp_size;
    if (*packed > reading->file_bytes) {
        return error_set(reading->error, STATUS_INVALID, stat.name,
                         "failed to read the zip: got entries of more bytes than the file, expected none to overlap");
    }
    struct entry *entry = &reading->entries[reading->count];
    *entry = (struct entry){.name = mem_dup(stat.name, length + 1),
                            .folder = strcspn(stat.name, "/"),
                            .index = index,
                            .size = (size_t)stat.size,
                            .kind = kind_of(stat.name)};
    if (entry->name == NULL) {
        return error_no_memory(reading->error, "a name");
    }
    reading->count++;
    return STATUS_OK;
}

/* By folder, then by name: a slash sorts behind a dot or a dash, so that the whole names will not do. */
static int by_name(const void *a, const void *b) {
    const struct entry *left = a, *right = b;
    size_t shared = left->folder < right->folder ? left->folder : right->folder;
    int order = memcmp(left->name, right->name, shared);
    if (order != 0) {
        return order;
    }
    if (left->folder != right->folder) {
        return left->folder < right->folder ? -1 : 1;
    }
    return strcmp(left->name, right->name);
}

static enum status list_entries(struct reading *reading) {
    zip_int64_t count = zip_get_num_entries(reading->zip, 0);
    enum status status = STATUS_OK;
    uint64_t packed = 0;
    if (count <= 0 || count > ENTRIES_MAX) {
        return error_set(reading->error, STATUS_LIMIT, NULL,
                         "failed to read the zip: got %lld entries, expected 1 to %d", (long long)count, ENTRIES_MAX);
    }
    reading->entries = mem_calloc((size_t)count, sizeof *reading->entries);
    if (reading->entries == NULL) {
        return error_no_memory(reading->error, "the entries of a zip");
    }
    for (zip_int64_t i = 0; i < count && status == STATUS_OK; i++) {
        status = take_entry(reading, (zip_uint64_t)i, &packed);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (reading->count > 1) {
        qsort(reading->entries, reading->count, sizeof *reading->entries, by_name);
    }
    for (size_t i = 1; i < reading->count; i++) {
        if (strcmp(reading->entries[i - 1].name, reading->entries[i].name) == 0) {
            return error_set(reading->error, STATUS_INVALID, reading->entries[i].name,
                             "failed to read the zip: got the entry '%s' twice", reading->entries[i].name);
        }
    }
    return STATUS_OK;
}

/* The whole entry and not a byte more; the caller's (mem_free()). */
static enum status unpack(struct reading *reading, const struct entry *entry, uint8_t **out) {
    zip_file_t *file = zip_fopen_index(reading->zip, entry->index, 0);
    uint8_t *bytes = mem_alloc(entry->size + 1, 1);
    size_t done = 0;
    enum status status = file == NULL    ? bad_zip(reading, entry->name, zip_get_error(reading->zip))
                         : bytes == NULL ? error_no_memory(reading->error, "a picture")
                                         : STATUS_OK;
    /* One byte more is asked for: it must not come, and at the end libzip compares the checksum. */
    while (status == STATUS_OK) {
        zip_int64_t got = zip_fread(file, bytes + done, entry->size + 1 - done);
        if (got < 0) {
            status = bad_zip(reading, entry->name, zip_file_get_error(file));
        } else if (got == 0) {
            break;
        } else {
            done += (size_t)got;
            if (done > entry->size) {
                status = error_set(reading->error, STATUS_INVALID, entry->name,
                                   "failed to read %s: got more bytes than declared", entry->name);
            }
        }
    }
    if (status == STATUS_OK && done != entry->size) {
        status = error_set(reading->error, STATUS_INVALID, entry->name,
                           "failed to read %s: got %zu bytes, expected %zu", entry->name, done, entry->size);
    }
    if (file != NULL) {
        (void)zip_fclose(file);
    }
    if (status != STATUS_OK) {
        mem_free(bytes);
        return status;
    }
    *out = bytes;
    return STATUS_OK;
}

static enum status check_size(struct reading *reading, const struct entry *entry, struct samples *samples,
                              size_t height, size_t width) {
    size_t total = 0;
    if (height == 0 || width == 0 || height > SIDE_MAX || width > SIDE_MAX ||
        CHANNELS * height * width > reading->limits->max_pixels) {
        return error_set(reading->error, STATUS_LIMIT, entry->name,
                         "failed to read %s: got %zu x %zu pixels, expected at most %d a side and %zu values",
                         entry->name, height, width, SIDE_MAX, reading->limits->max_pixels);
    }
    if (samples->pixels != NULL) {
        if (height == samples->height && width == samples->width) {
            return STATUS_OK;
        }
        return error_set(reading->error, STATUS_INVALID, entry->name,
                         "failed to read %s: got %zu x %zu pixels, expected %zu x %zu like the pictures before it",
                         entry->name, height, width, samples->height, samples->width);
    }
    if (!mem_multiply(reading->count, CHANNELS * height * width, &total) ||
        total > reading->limits->max_unpacked_bytes) {
        return error_set(reading->error, STATUS_LIMIT, entry->name,
                         "failed to read the zip: got %zu pictures of %zu x %zu, expected at most %zu bytes together",
                         reading->count, height, width, reading->limits->max_unpacked_bytes);
    }
    samples->height = height;
    samples->width = width;
    samples->pixels = mem_alloc(total, 1);
    return samples->pixels != NULL ? STATUS_OK : error_no_memory(reading->error, "the pictures");
}

/* Both decoders give rows of RGB; the caller keeps planes. *rgb is the caller's (mem_free()). */
static enum status decode_png(struct reading *reading, const struct entry *entry, const uint8_t *bytes,
                              struct samples *samples, uint8_t **rgb) {
    struct spng_ihdr header;
    size_t size = 0;
    spng_ctx *png = spng_ctx_new(0);
    enum status status = STATUS_OK;
    int code = png == NULL ? SPNG_EMEM : spng_set_image_limits(png, SIDE_MAX, SIDE_MAX);
    if (code == 0) {
        code = spng_set_chunk_limits(png, 1 << 20, 4 << 20);
    }
    if (code == 0) {
        code = spng_set_png_buffer(png, bytes, entry->size);
    }
    if (code == 0) {
        code = spng_get_ihdr(png, &header);
    }
    if (code == 0) {
        status = check_size(reading, entry, samples, header.height, header.width);
    }
    if (code == 0 && status == STATUS_OK) {
        code = spng_decoded_image_size(png, SPNG_FMT_RGB8, &size);
    }
    if (code == 0 && status == STATUS_OK) {
        *rgb = mem_alloc(CHANNELS * samples->height, samples->width);
        status = *rgb != NULL && size == CHANNELS * samples->height * samples->width
                     ? STATUS_OK
                     : error_no_memory(reading->error, "a picture");
    }
    if (code == 0 && status == STATUS_OK) {
        code = spng_decode_image(png, *rgb, size, SPNG_FMT_RGB8, 0);
    }
    spng_ctx_free(png);
    if (code != 0) {
        status = error_set(reading->error, code == SPNG_EMEM ? STATUS_NO_MEMORY : STATUS_INVALID, entry->name,
                           "failed to decode %s: got %s", entry->name, spng_strerror(code));
    }
    return status;
}

static enum status decode_jpeg(struct reading *reading, const struct entry *entry, const uint8_t *bytes,
                               struct samples *samples, uint8_t **rgb) {
    int width = 0, height = 0, subsampling = 0, colours = 0;
    int code = tjDecompressHeader3(reading->jpeg, bytes, entry->size, &width, &height, &subsampling, &colours);
    enum status status = STATUS_OK;
    if (code == 0 && width > 0 && height > 0) {
        status = check_size(reading, entry, samples, (size_t)height, (size_t)width);
        if (status == STATUS_OK) {
            *rgb = mem_alloc(CHANNELS * samples->height, samples->width);
            status = *rgb != NULL ? STATUS_OK : error_no_memory(reading->error, "a picture");
        }
        if (status == STATUS_OK) {
            /* Scans without end are how a small JPEG takes minutes. */
            code = tjDecompress2(reading->jpeg, bytes, entry->size, *rgb, width, 0, height, TJPF_RGB,
                                 TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS | TJFLAG_ACCURATEDCT);
        }
    }
    if (status == STATUS_OK && (code != 0 || *rgb == NULL)) {
        status = error_set(reading->error, STATUS_INVALID, entry->name, "failed to decode %s: got %s", entry->name,
                           tjGetErrorStr2(reading->jpeg));
    }
    return status;
}

static enum status read_picture(struct reading *reading, size_t at, struct samples *samples) {
    const struct entry *entry = &reading->entries[at];
    uint8_t *bytes = NULL, *rgb = NULL;
    enum status status = unpack(reading, entry, &bytes);
    if (status == STATUS_OK) {
        status = entry->kind == KIND_PNG ? decode_png(reading, entry, bytes, samples, &rgb)
                                         : decode_jpeg(reading, entry, bytes, samples, &rgb);
    }
    if (status == STATUS_OK) {
        size_t area = samples->height * samples->width;
        uint8_t *planes = samples->pixels + at * CHANNELS * area; /* (3, H, W) from (H, W, 3) */
        for (size_t c = 0; c < CHANNELS; c++) {
            for (size_t i = 0; i < area; i++) {
                planes[c * area + i] = rgb[i * CHANNELS + c];
            }
        }
    }
    mem_free(bytes);
    mem_free(rgb);
    return status;
}

/* Folders in the order of their names are the classes 0, 1, 2 ... unless all are numbers: "10" comes after "9" then. */
static bool folder_number(const struct entry *entry, int32_t *number) {
    int32_t value = 0;
    for (size_t i = 0; i < entry->folder; i++) {
        if (entry->name[i] < '0' || entry->name[i] > '9' || value >= CLASSES_MAX) {
            return false;
        }
        value = value * 10 + (entry->name[i] - '0');
    }
    *number = value;
    return value < CLASSES_MAX;
}

static enum status label(struct reading *reading, struct samples *samples) {
    bool numbers = true;
    int32_t class = 0;
    samples->labels = mem_calloc(reading->count, sizeof *samples->labels);
    if (samples->labels == NULL) {
        return error_no_memory(reading->error, "the labels");
    }
    for (size_t i = 0; i < reading->count && numbers; i++) {
        numbers = folder_number(&reading->entries[i], &samples->labels[i]);
    }
    for (size_t i = 0; i < reading->count && !numbers; i++) {
        const struct entry *entry = &reading->entries[i], *before = entry - (i > 0 ? 1 : 0);
        bool same = entry->folder == before->folder && memcmp(entry->name, before->name, entry->folder) == 0;
        class += same ? 0 : 1;
        samples->labels[i] = class;
    }
    if (class >= CLASSES_MAX) {
        return error_set(reading->error, STATUS_LIMIT, NULL, "failed to read the zip: got more than %d folders",
                         CLASSES_MAX);
    }
    return STATUS_OK;
}

enum status images_load(const char *path, const struct samples_limits *limits, struct samples *samples,
                        struct error *error) {
    struct reading reading = {.limits = limits, .error = error};
    enum status status = STATUS_OK;
    reading.zip = open_zip(path, &reading.file_bytes);
    reading.jpeg = tjInitDecompress();
    if (reading.zip == NULL || reading.jpeg == NULL) {
        status = error_set(error, STATUS_INVALID, NULL, "failed to read samples: got no zip archive");
    } else if (reading.file_bytes > limits->max_file_bytes) {
        status = error_set(error, STATUS_LIMIT, NULL, "failed to read the zip: got %zu bytes, expected at most %zu",
                           reading.file_bytes, limits->max_file_bytes);
    }
    if (status == STATUS_OK) {
        status = list_entries(&reading);
    }
    if (status == STATUS_OK && (reading.count == 0 || reading.count > limits->max_count)) {
        status = error_set(error, STATUS_LIMIT, NULL, "failed to read the zip: got %zu pictures, expected 1 to %zu",
                           reading.count, limits->max_count);
    }
    for (size_t i = 0; i < reading.count && status == STATUS_OK; i++) {
        status = read_picture(&reading, i, samples);
    }
    if (status == STATUS_OK) {
        status = label(&reading, samples);
    }
    if (status == STATUS_OK) {
        samples->count = reading.count;
        samples->channels = CHANNELS;
    }
    for (size_t i = 0; i < reading.count; i++) {
        mem_free(reading.entries[i].name);
    }
    mem_free(reading.entries);
    if (reading.jpeg != NULL) {
        (void)tjDestroy(reading.jpeg);
    }
    if (reading.zip != NULL) {
        zip_discard(reading.zip);
    }
    return status;
}
