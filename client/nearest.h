/* The known word that a misspelt one most likely means. */
#ifndef ONP_CLIENT_NEAREST_H
#define ONP_CLIENT_NEAREST_H

#include <stddef.h>

/* The word of `words[0..count)` with the fewest edits to `text`; the first of equals. count > 0; never NULL. */
const char *nearest_word(const char *text, const char *const *words, size_t count);

#endif
