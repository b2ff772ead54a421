/* A terminal breaks a long line in the middle of a word, below the first column; help is read in columns. */
#include "common/text_wrap.h"

#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

size_t text_terminal_width(FILE *file) {
    enum { UNKNOWN = 80 };
    struct winsize window;
    int fd = fileno(file);
    if (fd < 0 || isatty(fd) == 0) {
        return 0;
    }
    memset(&window, 0, sizeof window);
    return ioctl(fd, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 ? window.ws_col : UNKNOWN;
}

void text_wrap(FILE *file, const char *text, size_t column, size_t indent, size_t width) {
    bool is_first = true;
    if (width == 0) {
        (void)fputs(text, file);
        return;
    }
    while (*(text += strspn(text, " ")) != '\0') {
        size_t length = strcspn(text, " ");
        if (column + (is_first ? 0 : 1) + length > width && column > indent) {
            (void)fprintf(file, "\n%*s", (int)indent, "");
            column = indent;
            is_first = true;
        }
        (void)fprintf(file, "%s%.*s", is_first ? "" : " ", (int)length, text);
        column += length + (is_first ? 0 : 1);
        is_first = false;
        text += length;
    }
}
