/* The printed report. The report comes from a file or a server that need not be ours, so members may be missing or of
 * another type: what cannot be read is a dash, and names are printed with their control characters replaced. */
#include "client/report_view.h"

#include <math.h>
#include <string.h>

#include "client/report_fields.h"
#include "client/report_format.h"
#include "common/words.h"

enum { NAME_SIZE = 48, BAR_CELLS = 24, LAYERS_SHOWN = 24, CLASSES_SHOWN = 50, CURVE_CELLS = 60, CURVE_LEVELS = 8 };

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

static void print_bar(FILE *file, double fraction, const struct progress_style *style) {
    double bounded = fraction > 0 ? fmin(fraction, 1.0) : 0; /* NaN: none */
    size_t cells = (size_t)(bounded * BAR_CELLS + 0.5);
    for (size_t i = 0; i < cells; i++) {
        (void)fputs(style->unicode ? "\u2588" : "#", file);
    }
}

static void print_row(FILE *file, const json_t *report, const char *title, const char *before, const char *after) {
    char left[REPORT_CELL_SIZE];
    char right[REPORT_CELL_SIZE];
    report_format_percent(left, report, before);
    report_format_percent(right, report, after);
    (void)fprintf(file, "  %-22s %10s %10s", title, left, right);
}

static void print_verdict(FILE *file, const json_t *report, const struct progress_style *style) {
    char verdict[NAME_SIZE];
    char method[NAME_SIZE];
    format_name(verdict, json_object_get(report, "verdict"));
    format_name(method, json_object_get(report, "method"));
    (void)fprintf(file, "  %-22s %s%s%s", "verdict",
                  paint(style, report_verdict_is_good(verdict) ? COLOR_GOOD : COLOR_BAD),
                  verdict[0] != '\0' ? verdict : "-", paint(style, COLOR_OFF));
    const json_t *seed = json_object_get(report, "seed");
    if (method[0] != '\0' && json_is_integer(seed)) {
        (void)fprintf(file, "   (%s, seed %lld)", method, (long long)json_integer_value(seed));
    }
    (void)fputc('\n', file);
}

void report_view_summary(FILE *file, const json_t *report, const struct progress_style *style) {
    double seconds = 0;
    double units = 0;
    double total = 0;
    double der = 0;
    char text[REPORT_CELL_SIZE];
    (void)fprintf(file, "  %s%-22s %10s %10s%s\n", paint(style, COLOR_HEAD), "", "before", "after",
                  paint(style, COLOR_OFF));
    print_row(file, report, "accuracy", "accuracy_before", "accuracy_after");
    const json_t *interval = json_object_get(json_object_get(report, "accuracy"), "interval_after");
    if (json_is_number(json_array_get(interval, 0)) && json_is_number(json_array_get(interval, 1))) {
        (void)fprintf(file, "   (95 %%: %.1f to %.1f)", json_number_value(json_array_get(interval, 0)) * 100,
                      json_number_value(json_array_get(interval, 1)) * 100);
    }
    (void)fputc('\n', file);
    if (report_number(report, "locked_before", &total)) {
        print_row(file, report, "accuracy, locked part", "locked_before", "locked_after");
        (void)fputc('\n', file);
    }
    if (json_is_object(json_object_get(report, "probe"))) {
        print_row(file, report, "attack success", "asr_before", "asr_after");
        (void)fputc('\n', file);
        print_row(file, report, "recovery", "recovery_before", "recovery_after");
        (void)fputc('\n', file);
        if (report_number(report, "der", &der)) {
            (void)fprintf(file, "  %-22s %10s %10.3f\n", "defense rating (DER)", "", der);
        }
    } else {
        (void)fprintf(file, "  %-22s %10s %10s   (no probe was given)\n", "attack success", "-", "-");
    }
    if (report_number(report, "pruned_units", &units)) {
        (void)fprintf(file, "  %-22s %10s %10.0f", "pruned units", "", units);
        if (report_number(report, "units", &total)) {
            (void)fprintf(file, "   of %.0f", total);
        }
        (void)fputc('\n', file);
    }
    if (report_number(report, "seconds", &seconds)) {
        progress_format_seconds(seconds, text, sizeof text);
        (void)fprintf(file, "  %-22s %10s %10s\n", "time", "", text);
    }
    print_verdict(file, report, style);
}

static void print_head(FILE *file, const char *title, const struct progress_style *style) {
    (void)fprintf(file, "\n%s%s%s\n", paint(style, COLOR_HEAD), title, paint(style, COLOR_OFF));
}

/* A trigger that sends each class to another one has no line among the classes. */
static void print_all_to_all(FILE *file, const json_t *report, const struct progress_style *style) {
    const json_t *found = json_object_get(json_object_get(report, "exposure"), "all_to_all");
    char before[REPORT_CELL_SIZE], after[REPORT_CELL_SIZE], family[NAME_SIZE];
    if (!json_is_true(json_object_get(found, "suspect"))) {
        return;
    }
    report_format_number(before, json_object_get(found, "size_before"));
    report_format_number(after, json_object_get(found, "size_after"));
    format_name(family, json_object_get(found, "family"));
    (void)fprintf(file, "  %5s  %-9s %9s %9s %9s %9s  %severy class to another one, suspect%s\n", "all", family, before,
                  "-", after, "-", paint(style, COLOR_BAD), paint(style, COLOR_OFF));
}

/* A class whose trigger is much smaller than the others' stands out: its anomaly index is high, its bar long. */
static void print_exposure(FILE *file, const json_t *report, const struct progress_style *style) {
    static const char *const names[] = {"size_before", "anomaly_before", "size_after", "anomaly_after"};
    const json_t *exposure = json_object_get(report, "exposure");
    const json_t *classes = json_object_get(exposure, "classes");
    double largest = report_largest(classes, "anomaly_before");
    size_t i = 0;
    json_t *item = NULL;
    if (json_array_size(classes) == 0) {
        return;
    }
    print_head(file, "Smallest trigger found for each class (long bar: it stands out)", style);
    (void)fprintf(file, "  %5s  %-9s %9s %9s %9s %9s\n", "", "", "size", "anomaly", "size", "anomaly");
    (void)fprintf(file, "  %5s  %-9s %9s %9s %9s %9s\n", "class", "family", "before", "before", "after", "after");
    json_array_foreach(classes, i, item) {
        char cells[4][REPORT_CELL_SIZE];
        char family[NAME_SIZE];
        json_int_t class = json_integer_value(json_object_get(item, "class"));
        bool suspect = report_is_suspect(exposure, class);
        if (i >= CLASSES_SHOWN && !suspect) {
            continue;
        }
        for (size_t j = 0; j < 4; j++) {
            report_format_number(cells[j], json_object_get(item, names[j]));
        }
        format_name(family, json_object_get(item, "family"));
        (void)fprintf(file, "  %5lld  %-9s %9s %9s %9s %9s  %s", (long long)class, family, cells[0], cells[1], cells[2],
                      cells[3], paint(style, suspect ? COLOR_BAD : ""));
        print_bar(file, largest > 0 ? json_number_value(json_object_get(item, "anomaly_before")) / largest : 0, style);
        (void)fprintf(file, "%s%s\n", suspect ? " suspect" : "", suspect ? paint(style, COLOR_OFF) : "");
    }
    if (json_array_size(classes) > CLASSES_SHOWN) {
        (void)fprintf(file, "  of %zu classes the first %d and all suspects are shown\n", json_array_size(classes),
                      CLASSES_SHOWN);
    }
    print_all_to_all(file, report, style);
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
        char name[NAME_SIZE];
        const json_t *channels = json_object_get(item, "channels");
        size_t column = 0;
        size_t j = 0;
        json_t *channel = NULL;
        if (i == LAYERS_SHOWN) {
            (void)fprintf(file, "  and %zu more layers\n", json_array_size(pruned) - i);
            break;
        }
        format_name(name, json_object_get(item, "layer"));
        column = (size_t)fprintf(file, "  %-36s %4zu:", name, json_array_size(channels));
        json_array_foreach(channels, j, channel) {
            if (column + 8 > style->width) {
                (void)fputs(" ...", file);
                break;
            }
            column += (size_t)fprintf(file, " %lld", (long long)json_integer_value(channel));
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
    size_t cells = count < CURVE_CELLS ? count : CURVE_CELLS;
    (void)fprintf(file, "  %-22s ", "best so far");
    for (size_t cell = 0; cell < cells; cell++) {
        double best = low;
        for (size_t i = cell * count / cells; i < (cell + 1) * count / cells; i++) {
            best = fmax(best, report_curve_value(json_array_get(curve, i), "best"));
        }
        size_t level = (size_t)((best - low) / (high - low) * (CURVE_LEVELS - 1) + 0.5);
        level = level < CURVE_LEVELS ? level : CURVE_LEVELS - 1;
        (void)fputs(style->unicode ? blocks[level] : plain[level], file);
    }
    (void)fprintf(file, "  %.3f to %.3f\n", low, high);
}

static void print_search(FILE *file, const json_t *report, const struct progress_style *style) {
    const json_t *search = json_object_get(report, "search");
    double value = 0;
    if (!json_is_object(search)) {
        return;
    }
    print_head(file, "Search (reward: higher is better, 0 is best)", style);
    if (report_number(report, "evaluations", &value)) {
        (void)fprintf(file, "  %-22s %10.0f\n", "masks evaluated", value);
    }
    for (const struct report_row *row = report_rewards; row->title != NULL; row++) {
        if (report_number(report, row->before, &value)) {
            (void)fprintf(file, "  %-22s %10.4f\n", row->title, value);
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
            (void)fprintf(file, "  %-22s %10.2f  ", name, json_number_value(value));
            print_bar(file, json_number_value(value) / total, style);
            (void)fputc('\n', file);
        }
    }
    (void)fprintf(file, "  %-22s %10.2f\n", "total", total);
}

void report_view_full(FILE *file, const json_t *report, const struct progress_style *style) {
    print_head(file, "Before and after", style);
    report_view_summary(file, report, style);
    print_exposure(file, report, style);
    print_pruned(file, report, style);
    print_search(file, report, style);
    print_seconds(file, report, style);
}
