/* Names of models, layers and tokens are written by strangers; a terminal obeys what it is sent. */
#include "client/terminal_text.h"

#include <string.h>
#include <wchar.h>
#include <wctype.h>

#include "common/text_wrap.h"

enum { CELL_COLUMNS = 100, INDENT = 4 };

/* The next character: its bytes, and its columns; 0 columns for what must not be shown. */
static size_t next_character(const char *text, size_t length, size_t *columns) {
    wchar_t letter = 0;
    mbstate_t state;
    memset(&state, 0, sizeof state);
    size_t bytes = mbrtowc(&letter, text, length, &state);
    *columns = 0;
    if (bytes == 0 || bytes > length) { /* not in this locale */
        return 1;
    }
    int width = iswprint((wint_t)letter) ? wcwidth(letter) : 0;
    *columns = width > 0 ? (size_t)width : 0;
    return bytes;
}

size_t terminal_text(char *out, size_t size, const char *text, size_t columns) {
    static const char end[] = "...";
    text = text != NULL && text[0] != '\0' ? text : "-";
    size_t left = strlen(text);
    size_t used = 0;
    size_t length = 0;
    size_t cut_length = 0; /* where the text ends if it has to be cut */
    size_t cut_used = 0;
    while (left > 0) {
        size_t width = 0;
        size_t bytes = next_character(text, left, &width);
        const char *shown = width > 0 ? text : "?";
        size_t shown_bytes = width > 0 ? bytes : 1;
        width = width > 0 ? width : 1;
        if (used + width > columns || length + shown_bytes + sizeof end > size) {
            size_t dots = columns - cut_used < 3 ? columns - cut_used : 3;
            memcpy(out + cut_length, end, dots);
            length = cut_length + dots;
            used = cut_used + dots;
            break;
        }
        memcpy(out + length, shown, shown_bytes);
        length += shown_bytes;
        used += width;
        if (used + 3 <= columns) {
            cut_length = length;
            cut_used = used;
        }
        text += bytes;
        left -= bytes;
    }
    out[length] = '\0';
    return used;
}

void terminal_cell(FILE *file, const char *text, size_t width, size_t *column) {
    char cell[4 * CELL_COLUMNS];
    size_t terminal = text_terminal_width(file);
    size_t most = terminal > INDENT && terminal - INDENT < CELL_COLUMNS ? terminal - INDENT : CELL_COLUMNS;
    size_t used = terminal_text(cell, sizeof cell, text, most);
    if (terminal > 0 && *column > INDENT && *column + used > terminal) {
        (void)fprintf(file, "\n%*s", INDENT, "");
        *column = INDENT;
    }
    size_t fill = used < width && (terminal == 0 || *column + width + 1 < terminal) ? width - used : 0;
    (void)fprintf(file, "%s%*s%s", cell, (int)fill, "", terminal > 0 && *column + used + fill >= terminal ? "" : " ");
    *column += used + fill + 1;
}
