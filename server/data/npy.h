/* The npy format, versions 1 and 2: a header in the form of a Python dict, then the elements. Private to the module. */
#ifndef ONP_SERVER_DATA_NPY_H
#define ONP_SERVER_DATA_NPY_H

#include "server/data/npz.h"

/* Magic, version and length of the header: of version 1 the first 10 bytes, of version 2 the first 12. */
enum { NPY_PREFIX_V1 = 10, NPY_PREFIX_V2 = 12, NPY_HEADER_MAX = 64 * 1024 };

/* From the first 12 bytes of a file: how many are before the text of the header, and how many it has. */
enum status npy_prefix(const unsigned char prefix[NPY_PREFIX_V2], const char *place, size_t *before, size_t *length,
                       struct error *error);
/* The text of the header: sets type and shape of `array`. */
enum status npy_header(const char *text, size_t length, const char *place, struct npy *array, struct error *error);
/* Prefix and header of an array; NUL-terminated text of *length bytes, the caller's (mem_free()); NULL: no memory. */
char *npy_format_header(const struct npy *array, size_t *length);
/* Bytes of one element. */
size_t npy_width(enum npy_type type);
const char *npy_type_text(enum npy_type type);

#endif
