/* Progress for people: one line that is drawn over on a terminal, a plain line now and then elsewhere. */
#ifndef ONP_CLIENT_PROGRESS_BAR_H
#define ONP_CLIENT_PROGRESS_BAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct progress_state {
    const char *label;   /* what runs now: a stage, "upload model.onnx" */
    double fraction;     /* of the whole, [0, 1]; < 0: not known */
    double eta_s;        /* seconds left; < 0: not known */
    double best_reward;  /* NaN: none yet */
    const char *message; /* short, may be "" or NULL */
};

struct progress_style {
    size_t width; /* columns of the terminal */
    bool color;
    bool unicode;
};

enum progress_mode { PROGRESS_AUTO, PROGRESS_PLAIN, PROGRESS_SILENT };

struct progress_bar;

/* Draws to `file` (borrowed). AUTO: a bar if it is a terminal that can draw one (TERM is not "dumb"), plain lines
 * otherwise; colour unless NO_COLOR is set. */
enum progress_mode progress_mode_of(bool quiet);
struct progress_bar *progress_bar_new(FILE *file, enum progress_mode mode);
void progress_bar_free(struct progress_bar *bar);
/* May be called as often as one likes: it draws a few times a second at most, and when the label changes. */
void progress_bar_show(struct progress_bar *bar, const struct progress_state *state);
/* Ends the line: what comes next starts on a line of its own. The last state stays visible if `keep`. */
void progress_bar_end(struct progress_bar *bar, bool keep);

/* The line itself, without the return to its start: at most style->width columns. For tests. */
void progress_bar_format(const struct progress_state *state, double elapsed_s, const struct progress_style *style,
                         char *out, size_t size);
/* "7.3 s", "1:05", "1:02:03". */
void progress_format_seconds(double seconds, char *out, size_t size);

/* How to draw on this file: width from the terminal (80 if unknown), colour, letters of its locale. */
struct progress_style progress_style_of(FILE *file);

#endif
