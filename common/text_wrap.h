/* Lines that fit a terminal. */
#ifndef ONP_COMMON_TEXT_WRAP_H
#define ONP_COMMON_TEXT_WRAP_H

#include <stddef.h>
#include <stdio.h>

/* Columns of the terminal that `file` is; 0 if it is none. */
size_t text_terminal_width(FILE *file);
/* Prints `text` (ASCII) from `column` on, broken at blanks where a line would pass `width`; later lines begin with `indent` blanks. A
 * word that is longer than a line is not broken. width 0: one line. Ends without a line break. */
void text_wrap(FILE *file, const char *text, size_t column, size_t indent, size_t width);

#endif
