/* Text of others on a terminal: what could move the cursor, hide or turn what follows is replaced, and columns are counted. */
#ifndef ONP_CLIENT_TERMINAL_TEXT_H
#define ONP_CLIENT_TERMINAL_TEXT_H

#include <stddef.h>
#include <stdio.h>

/* Copies the UTF-8 `text` (NULL: "-") as far as it fits into `columns` and `size` bytes; what is not one or two columns wide in the
 * locale becomes '?', and what is cut ends in "...". Returns the columns used. */
size_t terminal_text(char *out, size_t size, const char *text, size_t columns);
/* Prints a cell of a table `width` columns wide and a blank, and moves *column on; where a terminal's line is full, on another line. On
 * a terminal the text is cut to a line. */
void terminal_cell(FILE *file, const char *text, size_t width, size_t *column);

#endif
