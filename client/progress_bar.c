/* The bar. A log file or a pipeline gets plain lines: one a stage and one each few seconds, no control characters. */
#include "client/progress_bar.h"

#include <langinfo.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/text_wrap.h"

enum { LINE_SIZE = 1024, LABEL_MAX = 40, LABEL_COLUMNS = 10, BAR_MIN = 8, BAR_MAX = 40, WIDTH_DEFAULT = 80 };

#define COLOR_DONE "\033[32m"
#define COLOR_REST "\033[2m"
#define COLOR_OFF "\033[0m"
#define ERASE_LINE "\r\033[K"

static const double DRAW_EVERY_S = 0.1;
static const double PLAIN_EVERY_S = 5.0;

struct progress_bar {
    FILE *file;
    enum progress_mode mode;
    bool is_terminal;
    bool has_line; /* something stands on the current line */
    double started;
    double drawn;
    char label[LABEL_MAX];
};

/* A line of text with a known number of columns; letters beyond the room are dropped. */
struct line {
    char *text;
    size_t size;
    size_t length;
    size_t columns;
    size_t max_columns;
};

static void put_bytes(struct line *line, const char *text) {
    size_t length = strlen(text);
    if (line->length + length < line->size) {
        memcpy(line->text + line->length, text, length + 1);
        line->length += length;
    }
}

/* `text` is ASCII: one byte a column. What is not (names from a server) becomes '?'. */
static void put_ascii(struct line *line, const char *text) {
    for (; *text != '\0' && line->columns < line->max_columns; text++) {
        unsigned char byte = (unsigned char)*text;
        char one[2] = {byte >= 0x20 && byte < 0x7f ? (char)byte : '?', '\0'};
        put_bytes(line, one);
        line->columns++;
    }
}

static void put_bar(struct line *line, double fraction, size_t cells, const struct progress_style *style) {
    size_t done = (size_t)(fraction * (double)cells + 0.5);
    put_ascii(line, style->unicode ? "" : "[");
    put_bytes(line, style->color ? COLOR_DONE : "");
    for (size_t i = 0; i < cells; i++) {
        if (i == done && style->color) {
            put_bytes(line, COLOR_OFF COLOR_REST);
        }
        if (style->unicode) {
            put_bytes(line, i < done ? "\u2588" : "\u2591");
            line->columns++;
        } else {
            put_ascii(line, i < done ? "#" : "-");
        }
    }
    put_bytes(line, style->color ? COLOR_OFF : "");
    put_ascii(line, style->unicode ? "" : "]");
}

void progress_format_seconds(double seconds, char *out, size_t size) {
    if (!(seconds >= 0) || seconds > 1e7) {
        (void)snprintf(out, size, "-");
        return;
    }
    unsigned whole = (unsigned)(seconds + 0.5);
    if (whole < 60) {
        (void)snprintf(out, size, "%.1f s", seconds);
    } else if (whole < 3600) {
        (void)snprintf(out, size, "%u:%02u", whole / 60, whole % 60);
    } else {
        (void)snprintf(out, size, "%u:%02u:%02u", whole / 3600, whole / 60 % 60, whole % 60);
    }
}

void progress_bar_format(const struct progress_state *state, double elapsed_s, const struct progress_style *style,
                         char *out, size_t size) {
    struct line line = {.text = out, .size = size, .max_columns = style->width};
    char text[128];
    char seconds[32];
    out[0] = '\0';
    (void)snprintf(text, sizeof text, "%-*s ", LABEL_COLUMNS, state->label);
    put_ascii(&line, text);
    if (state->fraction >= 0) {
        double fraction = fmin(state->fraction, 1.0);
        /* A third of the line, if label, percents and times still fit beside it. */
        size_t cells = style->width / 3;
        cells = cells > BAR_MAX ? BAR_MAX : cells;
        if (cells >= BAR_MIN && line.columns + cells + 2 < style->width) {
            put_bar(&line, fraction, cells, style);
        }
        (void)snprintf(text, sizeof text, " %3.0f %%", floor(fraction * 100 + 1e-9));
        put_ascii(&line, text);
    }
    progress_format_seconds(elapsed_s, seconds, sizeof seconds);
    (void)snprintf(text, sizeof text, "  %s", seconds);
    put_ascii(&line, text);
    if (state->eta_s >= 0) {
        progress_format_seconds(state->eta_s, seconds, sizeof seconds);
        (void)snprintf(text, sizeof text, "  left %s", seconds);
        put_ascii(&line, text);
    }
    if (isfinite(state->best_reward)) {
        (void)snprintf(text, sizeof text, "  reward %.3f", state->best_reward);
        put_ascii(&line, text);
    }
    if (state->message != NULL && state->message[0] != '\0') {
        put_ascii(&line, "  ");
        put_ascii(&line, state->message);
    }
}

struct progress_style progress_style_of(FILE *file) {
    struct progress_style style = {.width = WIDTH_DEFAULT};
    const char *no_color = getenv("NO_COLOR");
    size_t width = text_terminal_width(file);
    if (width > 0) {
        style.color = no_color == NULL || no_color[0] == '\0';
        style.width = width;
    }
    style.unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    return style;
}

enum progress_mode progress_mode_of(bool quiet) {
    return quiet ? PROGRESS_SILENT : PROGRESS_AUTO;
}

struct progress_bar *progress_bar_new(FILE *file, enum progress_mode mode) {
    struct progress_bar *bar = mem_calloc(1, sizeof *bar);
    if (bar == NULL) {
        return NULL;
    }
    const char *term = getenv("TERM");
    int fd = fileno(file);
    bar->file = file;
    bar->mode = mode;
    bar->is_terminal = mode == PROGRESS_AUTO && fd >= 0 && isatty(fd) != 0 && term != NULL && strcmp(term, "dumb") != 0;
    bar->started = clock_seconds();
    bar->drawn = -PLAIN_EVERY_S;
    return bar;
}

void progress_bar_free(struct progress_bar *bar) {
    mem_free(bar);
}

void progress_bar_show(struct progress_bar *bar, const struct progress_state *state) {
    if (bar == NULL || bar->mode == PROGRESS_SILENT) {
        return;
    }
    double now = clock_seconds();
    bool is_new = strncmp(bar->label, state->label, sizeof bar->label - 1) != 0;
    if (!is_new && now - bar->drawn < (bar->is_terminal ? DRAW_EVERY_S : PLAIN_EVERY_S)) {
        return;
    }
    struct progress_style style = {.width = LINE_SIZE - 1};
    char line[LINE_SIZE];
    bar->drawn = now;
    (void)snprintf(bar->label, sizeof bar->label, "%s", state->label);
    if (bar->is_terminal) {
        style = progress_style_of(bar->file);
        style.width = style.width > 1 ? style.width - 1 : 1; /* a full last column makes some terminals wrap */
        progress_bar_format(state, now - bar->started, &style, line, sizeof line);
        (void)fprintf(bar->file, ERASE_LINE "%s", line);
        bar->has_line = true;
    } else {
        char percent[16] = "";
        if (state->fraction >= 0) { /* ahead of the words, where a column of them is easy to read */
            (void)snprintf(percent, sizeof percent, "%3.0f %% ", floor(fmin(state->fraction, 1.0) * 100 + 1e-9));
        }
        struct progress_state words = *state;
        words.fraction = -1; /* no bar: the words alone */
        progress_bar_format(&words, now - bar->started, &style, line, sizeof line);
        (void)fprintf(bar->file, "%s%s\n", percent, line);
    }
    (void)fflush(bar->file);
}

void progress_bar_end(struct progress_bar *bar, bool keep) {
    if (bar == NULL || !bar->has_line) {
        return;
    }
    (void)fputs(keep ? "\n" : ERASE_LINE, bar->file);
    (void)fflush(bar->file);
    bar->has_line = false;
    bar->label[0] = '\0';
}
