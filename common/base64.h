/* Bytes as text. */
#ifndef ONP_COMMON_BASE64_H
#define ONP_COMMON_BASE64_H

#include <stddef.h>

/* bytes (count) in base64 with padding (RFC 4648, section 4), terminated; mem_free(). NULL without memory. Any thread. */
char *base64_encode(const void *bytes, size_t count);

#endif
