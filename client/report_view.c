/* The printed report. The report comes from a file or a server that need not be ours, so members may be missing or of
 * another type: what cannot be read is a dash, and names are printed with their control characters replaced. */
#include "client/report_view.h"

#include <math.h>
#include <string.h>

#include "client/report_fields.h"
#include "client/report_format.h"
#include "client/terminal_text.h"
#include "common/text_wrap.h"
#include "common/words.h"

enum { NAME_SIZE = 48, BAR_CELLS = 24, LAYERS_SHOWN = 24, CLASSES_SHOWN = 50, CURVE_CELLS = 60, CURVE_LEVELS = 8 };
enum { NARROW = 72, TITLE_WIDE = 22, TITLE_NARROW = 16, LAYER_COLUMNS = 36 };

#define COLOR_GOOD "\033[32m"
#define COLOR_BAD "\033[31m"
#define COLOR_HEAD "\033[1m"
#define COLOR_OFF "\033[0m"

static const char *paint(const struct progress_style *style, const char *color) {
    return style->color ? color : "";
}

/* A name from the report with what could move the cursor replaced, cut to the cell. */
static void format_name(char out[NAME_SIZE], const json_t *value) {
    const char *text = json_string_value(value);
    size_t i = 0;
    for (; text != NULL && text[i] != '\0' && i + 1 < NAME_SIZE; i++) {
        unsigned char byte = (unsigned char)text[i];
        out[i] = byte >= 0x20 && byte != 0x7f ? (char)byte : '?';
    }
    out[i] = '\0';
}

/* In what is left of the line behind `column`, of which `reserve` stay free. */
static void print_bar(FILE *file, double fraction, size_t column, size_t reserve, const struct progress_style *style) {
    double bounded = fraction > 0 ? fmin(fraction, 1.0) : 0; /* NaN: none */
    size_t room = style->width > column + reserve ? style->width - column - reserve : 0;
    size_t cells = (size_t)(bounded * (double)(room < BAR_CELLS ? room : BAR_CELLS) + 0.5);
    for (size_t i = 0; i < cells; i++) {
        (void)fputs(style->unicode ? "\u2588" : "#", file);
    }
}

static bool is_narrow(const struct progress_style *style) {
    return style->width < NARROW;
}

/* Columns of the titles at the left. */
static int title_columns(const struct progress_style *style) {
    return is_narrow(style) ? TITLE_NARROW : TITLE_WIDE;
}

static void print_title(FILE *file, const char *title, const struct progress_style *style) {
    (void)fprintf(file, "  %-*.*s", title_columns(style), title_columns(style), title);
}

/* The columns that a summary's row has used. */
static size_t row_columns(const struct progress_style *style) {
    return 2 + (size_t)title_columns(style) + 22;
}

/* A remark behind a row; below it where there is no room. Ends the line. */
static void print_note(FILE *file, const char *note, size_t column, const struct progress_style *style) {
    bool fits = column + 3 + strlen(note) <= style->width;
    (void)fprintf(file, "%s%s\n", note[0] == '\0' ? "" : fits ? "   " : "\n    ", note);
}

static void print_row(FILE *file, const json_t *report, const char *title, const char *before, const char *after,
                      const struct progress_style *style) {
    char left[REPORT_CELL_SIZE];
    char right[REPORT_CELL_SIZE];
    report_format_percent(left, report, before);
    report_format_percent(right, report, after);
    print_title(file, title, style);
    (void)fprintf(file, " %10s %10s", left, right);
}

static void print_verdict(FILE *file, const json_t *report, const struct progress_style *style) {
    char verdict[NAME_SIZE];
    char method[NAME_SIZE];
    char note[NAME_SIZE + 40] = "";
    format_name(verdict, json_object_get(report, "verdict"));
    format_name(method, json_object_get(report, "method"));
    print_title(file, "verdict", style);
    (void)fprintf(file, " %s%s%s", paint(style, report_verdict_is_good(verdict) ? COLOR_GOOD : COLOR_BAD),
                  verdict[0] != '\0' ? verdict : "-", paint(style, COLOR_OFF));
    const json_t *seed = json_object_get(report, "seed");
    if (method[0] != '\0' && json_is_integer(seed)) {
        (void)snprintf(note, sizeof note, "(%s, seed %lld)", method, (long long)json_integer_value(seed));
    }
    print_note(file, note, 3 + (size_t)title_columns(style) + strlen(verdict), style);
}

static void print_figure(FILE *file, const char *title, const char *figure, const char *note,
                         const struct progress_style *style) {
    print_title(file, title, style);
    (void)fprintf(file, " %10s %10s", "", figure);
    print_note(file, note, row_columns(style), style);
}

static void print_accuracy(FILE *file, const json_t *report, const struct progress_style *style) {
    const json_t *interval = json_object_get(json_object_get(report, "accuracy"), "interval_after");
    const json_t *low = json_array_get(interval, 0);
    const json_t *high = json_array_get(interval, 1);
    char note[64] = "";
    double value = 0;
    print_row(file, report, "accuracy", "accuracy_before", "accuracy_after", style);
    if (json_is_number(low) && json_is_number(high)) {
        (void)snprintf(note, sizeof note, "(95 %%: %.1f to %.1f)", json_number_value(low) * 100,
                       json_number_value(high) * 100);
    }
    print_note(file, note, row_columns(style), style);
    if (report_number(report, "locked_before", &value)) {
        print_row(file, report, is_narrow(style) ? "locked accuracy" : "accuracy, locked part", "locked_before",
                  "locked_after", style);
        (void)fputc('\n', file);
    }
}

static void print_attack(FILE *file, const json_t *report, const struct progress_style *style) {
    char text[REPORT_CELL_SIZE];
    double der = 0;
    print_row(file, report, "attack success", "asr_before", "asr_after", style);
    if (!json_is_object(json_object_get(report, "probe"))) {
        print_note(file, "(no probe was given)", row_columns(style), style);
        return;
    }
    (void)fputc('\n', file);
    print_row(file, report, "recovery", "recovery_before", "recovery_after", style);
    (void)fputc('\n', file);
    if (report_number(report, "der", &der)) {
        (void)snprintf(text, sizeof text, "%.3f", der);
        print_figure(file, is_narrow(style) ? "defense rating" : "defense rating (DER)", text, "", style);
    }
}

void report_view_summary(FILE *file, const json_t *report, const struct progress_style *style) {
    double value = 0;
    double total = 0;
    char text[REPORT_CELL_SIZE];
    char note[40] = "";
    (void)fputs(paint(style, COLOR_HEAD), file);
    print_title(file, "", style);
    (void)fprintf(file, " %10s %10s%s\n", "before", "after", paint(style, COLOR_OFF));
    print_accuracy(file, report, style);
    print_attack(file, report, style);
    if (report_number(report, "pruned_units", &value)) {
        (void)snprintf(text, sizeof text, "%.0f", value);
        if (report_number(report, "units", &total)) {
            (void)snprintf(note, sizeof note, "of %.0f", total);
        }
        print_figure(file, "pruned units", text, note, style);
    }
    if (report_number(report, "seconds", &value)) {
        progress_format_seconds(value, text, sizeof text);
        print_figure(file, "time", text, "", style);
    }
    print_verdict(file, report, style);
}

static void print_head(FILE *file, const char *title, const struct progress_style *style) {
    (void)fprintf(file, "\n%s", paint(style, COLOR_HEAD));
    text_wrap(file, title, 0, 0, style->width);
    (void)fprintf(file, "%s\n", paint(style, COLOR_OFF));
}

/* One line of the exposure; on a narrow terminal the anomaly indices alone. */
static void print_class(FILE *file, const json_t *item, const char *title, double largest, const char *remark,
                        const struct progress_style *style) {
    static const char *const names[] = {"size_before", "anomaly_before", "size_after", "anomaly_after"};
    const bool narrow = is_narrow(style);
    const int cell_columns = narrow ? 7 : 9;
    const int family_columns = narrow ? 8 : 9;
    char family[NAME_SIZE];
    size_t column = (narrow ? 8U : 9U) + (size_t)family_columns;
    format_name(family, json_object_get(item, "family"));
    (void)fprintf(file, "  %5s %s%-*.*s", title, narrow ? "" : " ", family_columns, family_columns, family);
    for (size_t i = narrow ? 1 : 0; i < 4; i += narrow ? 2 : 1) {
        char cell[REPORT_CELL_SIZE];
        report_format_number(cell, json_object_get(item, names[i]));
        column += (size_t)fprintf(file, " %*s", cell_columns, cell);
    }
    (void)fprintf(file, "%s%s", narrow ? " " : "  ", paint(style, remark[0] != '\0' ? COLOR_BAD : ""));
    if (!narrow) {
        print_bar(file, largest > 0 ? json_number_value(json_object_get(item, "anomaly_before")) / largest : 0,
                  column + 2, sizeof " suspect", style);
    }
    (void)fprintf(file, "%s%s\n", remark, remark[0] != '\0' ? paint(style, COLOR_OFF) : "");
}

/* A class whose trigger is much smaller than the others' stands out: its anomaly index is high, its bar long. */
static void print_exposure(FILE *file, const json_t *report, const struct progress_style *style) {
    const json_t *exposure = json_object_get(report, "exposure");
    const json_t *classes = json_object_get(exposure, "classes");
    const json_t *all = json_object_get(exposure, "all_to_all");
    double largest = report_largest(classes, "anomaly_before");
    char title[REPORT_CELL_SIZE];
    size_t i = 0;
    json_t *item = NULL;
    if (json_array_size(classes) == 0) {
        return;
    }
    if (is_narrow(style)) {
        print_head(file, "Anomaly index of each class's smallest trigger (high: it stands out)", style);
        (void)fprintf(file, "  %5s %-8s %7s %7s\n", "class", "family", "before", "after");
    } else {
        print_head(file, "Smallest trigger found for each class (long bar: it stands out)", style);
        (void)fprintf(file, "  %5s  %-9s %9s %9s %9s %9s\n", "", "", "size", "anomaly", "size", "anomaly");
        (void)fprintf(file, "  %5s  %-9s %9s %9s %9s %9s\n", "class", "family", "before", "before", "after", "after");
    }
    json_array_foreach(classes, i, item) {
        json_int_t class = json_integer_value(json_object_get(item, "class"));
        bool suspect = report_is_suspect(exposure, class);
        if (i < CLASSES_SHOWN || suspect) {
            (void)snprintf(title, sizeof title, "%lld", (long long)class);
            print_class(file, item, title, largest, !suspect ? "" : is_narrow(style) ? "suspect" : " suspect", style);
        }
    }
    if (json_array_size(classes) > CLASSES_SHOWN) {
        (void)fprintf(file, "  of %zu classes the first %d and all suspects are shown\n", json_array_size(classes),
                      CLASSES_SHOWN);
    }
    /* A trigger that sends each class to another one has no line among the classes. */
    if (json_is_true(json_object_get(all, "suspect"))) {
        print_class(file, all, "all", 0, is_narrow(style) ? "suspect" : " suspect", style);
    }
}

static void print_pruned(FILE *file, const json_t *report, const struct progress_style *style) {
    const json_t *pruned = json_object_get(report, "pruned");
    size_t i = 0;
    json_t *item = NULL;
    if (json_array_size(pruned) == 0) {
        return;
    }
    print_head(file, "Pruned units", style);
    json_array_foreach(pruned, i, item) {
        char name[4 * LAYER_COLUMNS];
        const json_t *channels = json_object_get(item, "channels");
        size_t column = 0;
        size_t j = 0;
        json_t *channel = NULL;
        if (i == LAYERS_SHOWN) {
            (void)fprintf(file, "  and %zu more layers\n", json_array_size(pruned) - i);
            break;
        }
        size_t room = is_narrow(style) ? TITLE_NARROW : LAYER_COLUMNS;
        size_t used = terminal_text(name, sizeof name, json_string_value(json_object_get(item, "layer")), room);
        (void)fprintf(file, "  %s%*s ", name, (int)(room - used), "");
        column = 3 + room + (size_t)fprintf(file, "%4zu:", json_array_size(channels));
        json_array_foreach(channels, j, channel) {
            char number[REPORT_CELL_SIZE];
            size_t length = (size_t)snprintf(number, sizeof number, " %lld", (long long)json_integer_value(channel));
            if (column + length + sizeof " ..." > style->width) {
                (void)fputs(" ...", file);
                break;
            }
            (void)fputs(number, file);
            column += length;
        }
        (void)fputc('\n', file);
    }
}

/* The curve as one line of small columns, each the best of its share of the points. */
static void print_curve(FILE *file, const json_t *curve, const struct progress_style *style) {
    static const char *const blocks[CURVE_LEVELS] = {"\u2581", "\u2582", "\u2583", "\u2584",
                                                     "\u2585", "\u2586", "\u2587", "\u2588"};
    static const char *const plain[CURVE_LEVELS] = {"_", ".", "-", "-", "=", "=", "#", "#"};
    size_t count = json_array_size(curve);
    double low = INFINITY;
    double high = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        low = fmin(low, report_curve_value(json_array_get(curve, i), "best")); /* fmin() and fmax() pass over NaN */
        high = fmax(high, report_curve_value(json_array_get(curve, i), "best"));
    }
    if (count < 2 || !(high > low)) {
        return;
    }
    char range[4 * REPORT_CELL_SIZE];
    int length = snprintf(range, sizeof range, "%.3f to %.3f", low, high);
    size_t column = 3 + (size_t)title_columns(style) + 2 + (size_t)length;
    size_t room = style->width > column ? style->width - column : 2;
    room = room < CURVE_CELLS ? room : CURVE_CELLS;
    size_t cells = count < room ? count : room;
    print_title(file, "best so far", style);
    (void)fputc(' ', file);
    for (size_t cell = 0; cell < cells; cell++) {
        double best = low;
        for (size_t i = cell * count / cells; i < (cell + 1) * count / cells; i++) {
            best = fmax(best, report_curve_value(json_array_get(curve, i), "best"));
        }
        size_t level = (size_t)((best - low) / (high - low) * (CURVE_LEVELS - 1) + 0.5);
        level = level < CURVE_LEVELS ? level : CURVE_LEVELS - 1;
        (void)fputs(style->unicode ? blocks[level] : plain[level], file);
    }
    (void)fprintf(file, "  %s\n", range);
}

static void print_search(FILE *file, const json_t *report, const struct progress_style *style) {
    const json_t *search = json_object_get(report, "search");
    double value = 0;
    if (!json_is_object(search)) {
        return;
    }
    print_head(file, "Search (reward: higher is better, 0 is best)", style);
    if (report_number(report, "evaluations", &value)) {
        print_title(file, "masks evaluated", style);
        (void)fprintf(file, " %10.0f\n", value);
    }
    for (const struct report_row *row = report_rewards; row->title != NULL; row++) {
        if (report_number(report, row->before, &value)) {
            print_title(file, row->title, style);
            (void)fprintf(file, " %10.4f\n", value);
        }
    }
    print_curve(file, json_object_get(search, "curve"), style);
}

static void print_seconds(FILE *file, const json_t *report, const struct progress_style *style) {
    const json_t *seconds = json_object_get(report, "seconds");
    double total = 0;
    if (!report_number(report, "seconds", &total) || !(total > 0)) {
        return;
    }
    print_head(file, "Seconds by stage", style);
    for (int i = 0; i < STAGE_COUNT; i++) {
        const char *name = job_stage_name((enum job_stage)i);
        const json_t *value = json_object_get(seconds, name);
        if (json_is_number(value)) {
            print_title(file, name, style);
            (void)fprintf(file, " %10.2f  ", json_number_value(value));
            print_bar(file, json_number_value(value) / total, 15 + (size_t)title_columns(style), 0, style);
            (void)fputc('\n', file);
        }
    }
    print_title(file, "total", style);
    (void)fprintf(file, " %10.2f\n", total);
}

void report_view_full(FILE *file, const json_t *report, const struct progress_style *style) {
    print_head(file, "Before and after", style);
    report_view_summary(file, report, style);
    print_exposure(file, report, style);
    print_pruned(file, report, style);
    print_search(file, report, style);
    print_seconds(file, report, style);
}
