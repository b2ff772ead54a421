/* Text of others on a terminal: what could move the cursor, hide or turn what follows is replaced, and columns are counted. */
#ifndef ONP_CLIENT_TERMINAL_TEXT_H
#define ONP_CLIENT_TERMINAL_TEXT_H

#include <stddef.h>

/* Copies the UTF-8 `text` (NULL: "-") as far as it fits into `columns` and `size` bytes; what is not one or two columns wide in the
 * locale becomes '?', and what is cut ends in "...". Returns the columns used. */
size_t terminal_text(char *out, size_t size, const char *text, size_t columns);

#endif
