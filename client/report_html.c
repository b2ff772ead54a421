/* The page. What is drawn is SVG made of numbers that were checked; every string of the report goes through put_text(). */
#include "client/report_html.h"

#include <math.h>
#include <string.h>

#include "client/progress_bar.h"
#include "client/report_fields.h"
#include "client/report_format.h"
#include "common/words.h"

enum { LAYERS_SHOWN = 500, CHANNELS_SHOWN = 256, CLASSES_SHOWN = 200, POINTS_SHOWN = 300, BAR_WIDTH = 220 };
enum { CHART_WIDTH = 640, CHART_HEIGHT = 180 };

static const char HEAD[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"referrer\" content=\"no-referrer\">\n<title>onp report</title>\n<style>\n"
    ":root { color-scheme: light dark; --ink: #1c2733; --faint: #5b6b7b; --line: #d6dde4; --bar: #2f6fae; --bad: "
    "#b3261e;"
    " --good: #1b6e3c; --paper: #fff }\n"
    "@media (prefers-color-scheme: dark) { :root { --ink: #e4eaf0; --faint: #9fb0c0; --line: #36424e; --bar: #6ea8dc;"
    " --bad: #ff8a80; --good: #7ed49b; --paper: #12181e } }\n"
    "body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;"
    " margin: 2rem auto; padding: 0 1rem }\n"
    "h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }\n"
    ".wide { overflow-x: auto }\n"
    "table { border-collapse: collapse; font-variant-numeric: tabular-nums }\n"
    "th, td { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); vertical-align: "
    "top }\n"
    "th:first-child, td:first-child, .words { text-align: left }\n"
    "th { font-weight: 600 } .long { overflow-wrap: anywhere; min-width: 10rem }\n"
    ".faint { color: var(--faint) } .good { color: var(--good) } .bad { color: var(--bad) }\n"
    "svg { display: block; max-width: 100% } td svg { margin-top: .3rem; min-width: 8rem } svg text { fill: "
    "var(--faint); font-size: 12px }\n"
    ".bar { fill: var(--bar) } .bar.bad { fill: var(--bad) } .after { fill: var(--faint) }\n"
    ".best, .mean { fill: none; stroke-width: 2 } .best { stroke: var(--bar) }\n"
    ".mean { stroke: var(--faint); stroke-dasharray: 4 3 } .axis { stroke: var(--line) }\n"
    "</style>\n</head>\n<body>\n";

/* Text of the report: what has a meaning in HTML is escaped, control characters become a mark, and its direction stays its own. */
static void put_text(struct buf *out, const char *text) {
    (void)buf_append_text(out, "<bdi>");
    for (; text != NULL && *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte < 0x20 || byte == 0x7f) {
            (void)buf_append_text(out, "\xef\xbf\xbd");
        } else if (strchr("&<>\"'", byte) != NULL) {
            (void)buf_printf(out, "&#%u;", (unsigned)byte);
        } else {
            (void)buf_append(out, text, 1);
        }
    }
    (void)buf_append_text(out, "</bdi>");
}

static void put_string(struct buf *out, const json_t *value) {
    const char *text = json_string_value(value);
    put_text(out, text != NULL && text[0] != '\0' ? text : "-");
}

/* The words of `titles` are ours; a first letter of '<' makes a column of words. */
static void begin_table(struct buf *out, const char *heading, const char *const *titles, size_t count) {
    (void)buf_printf(out, "<h2>%s</h2>\n<div class=\"wide\"><table>\n<thead><tr>", heading);
    for (size_t i = 0; i < count; i++) {
        bool words = titles[i][0] == '<';
        (void)buf_printf(out, "<th scope=\"col\"%s>%s</th>", words ? " class=\"words\"" : "",
                         titles[i] + (words ? 1 : 0));
    }
    (void)buf_append_text(out, "</tr></thead>\n<tbody>\n");
}

static void end_table(struct buf *out) {
    (void)buf_append_text(out, "</tbody></table></div>\n");
}

/* A cell with a bar of `fraction` of its width; NaN: none. A second one, thinner, if `after` is a number. */
static void put_bar(struct buf *out, double fraction, double after, bool is_bad) {
    double width = (fraction > 0 ? fmin(fraction, 1) : 0) * BAR_WIDTH;
    (void)buf_printf(out,
                     "<td class=\"words\"><svg width=\"%d\" height=\"18\" viewBox=\"0 0 %d 18\" aria-hidden=\"true\">"
                     "<rect class=\"bar%s\" x=\"0\" y=\"2\" width=\"%.1f\" height=\"8\"/>",
                     BAR_WIDTH, BAR_WIDTH, is_bad ? " bad" : "", width);
    if (after > 0) {
        (void)buf_printf(out, "<rect class=\"after\" x=\"0\" y=\"11\" width=\"%.1f\" height=\"4\"/>",
                         fmin(after, 1) * BAR_WIDTH);
    }
    (void)buf_append_text(out, "</svg></td>");
}

static void put_figure(struct buf *out, const char *title, const char *before, const char *after, const char *note) {
    (void)buf_printf(out, "<tr><th scope=\"row\">%s</th><td>%s</td><td>%s</td><td class=\"words faint\">%s</td></tr>\n",
                     title, before, after, note);
}

static void put_summary(struct buf *out, const json_t *report) {
    static const char *const titles[] = {"", "before", "after", "<"};
    char before[REPORT_CELL_SIZE], after[REPORT_CELL_SIZE], note[64];
    double value = 0;
    double other = 0;
    bool has_probe = json_is_object(json_object_get(report, "probe"));
    const json_t *interval = json_object_get(json_object_get(report, "accuracy"), "interval_after");
    begin_table(out, "Before and after", titles, 4);
    for (const struct report_row *row = report_rates; row->title != NULL; row++) {
        note[0] = '\0';
        report_format_percent(before, report, row->before);
        report_format_percent(after, report, row->after);
        if (row == report_rates && json_is_number(json_array_get(interval, 0)) &&
            json_is_number(json_array_get(interval, 1))) {
            (void)snprintf(note, sizeof note, "95 %%: %.1f to %.1f",
                           json_number_value(json_array_get(interval, 0)) * 100,
                           json_number_value(json_array_get(interval, 1)) * 100);
        }
        bool is_probe = strncmp(row->before, "asr", 3) == 0;
        if (is_probe && !has_probe) {
            (void)snprintf(note, sizeof note, "no probe was given");
        }
        if (row == report_rates || is_probe || report_number(report, row->before, &value)) {
            put_figure(out, row->title, before, after, note);
        }
    }
    if (report_number(report, "der", &value)) {
        (void)snprintf(after, sizeof after, "%.3f", value);
        put_figure(out, "defense rating (DER)", "", after, "");
    }
    if (report_number(report, "pruned_units", &value)) {
        note[0] = '\0';
        (void)snprintf(after, sizeof after, "%.0f", value);
        if (report_number(report, "units", &other)) {
            (void)snprintf(note, sizeof note, "of %.0f", other);
        }
        put_figure(out, "pruned units", "", after, note);
    }
    if (report_number(report, "seconds", &value)) {
        progress_format_seconds(value, after, sizeof after);
        put_figure(out, "time", "", after, "");
    }
    end_table(out);
}

static void put_verdict(struct buf *out, const json_t *report) {
    const char *verdict = report_word(report, "verdict");
    const json_t *seed = json_object_get(report, "seed");
    (void)buf_append_text(out, "<h1>Report of onp</h1>\n<p>Verdict: ");
    (void)buf_printf(out, "<strong class=\"%s\">", verdict != NULL && report_verdict_is_good(verdict) ? "good" : "bad");
    put_text(out, verdict != NULL ? verdict : "-");
    (void)buf_append_text(out, "</strong> <span class=\"faint\">(method ");
    put_string(out, json_object_get(report, "method"));
    if (json_is_integer(seed)) {
        (void)buf_printf(out, ", seed %lld", (long long)json_integer_value(seed));
    }
    (void)buf_append_text(out, ")</span></p>\n");
}

static void put_class(struct buf *out, const json_t *item, const char *title, double largest, bool is_suspect) {
    static const char *const names[] = {"size_before", "anomaly_before", "size_after", "anomaly_after"};
    char cell[REPORT_CELL_SIZE];
    (void)buf_printf(out, "<tr><th scope=\"row\">%s</th><td class=\"words\">", title);
    put_string(out, json_object_get(item, "family"));
    (void)buf_append_text(out, "</td>");
    for (size_t i = 0; i < 4; i++) {
        report_format_number(cell, json_object_get(item, names[i]));
        (void)buf_printf(out, "<td>%s</td>", cell);
    }
    double scale = largest > 0 ? 1 / largest : 0;
    put_bar(out, json_number_value(json_object_get(item, "anomaly_before")) * scale,
            json_number_value(json_object_get(item, "anomaly_after")) * scale, is_suspect);
    (void)buf_printf(out, "<td class=\"words bad\">%s</td></tr>\n", is_suspect ? "suspect" : "");
}

static void put_exposure(struct buf *out, const json_t *report) {
    static const char *const titles[] = {"class",
                                         "<family",
                                         "size before",
                                         "anomaly before",
                                         "size after",
                                         "anomaly after",
                                         "<how it stands out (thin: after)",
                                         "<"};
    const json_t *exposure = json_object_get(report, "exposure");
    const json_t *classes = json_object_get(exposure, "classes");
    const json_t *all = json_object_get(exposure, "all_to_all");
    char title[REPORT_CELL_SIZE];
    size_t i = 0;
    json_t *item = NULL;
    if (json_array_size(classes) == 0) {
        return;
    }
    double largest = fmax(report_largest(classes, "anomaly_before"), report_largest(classes, "anomaly_after"));
    begin_table(out, "Smallest trigger found for each class", titles, sizeof titles / sizeof titles[0]);
    json_array_foreach(classes, i, item) {
        json_int_t class = json_integer_value(json_object_get(item, "class"));
        bool is_suspect = report_is_suspect(exposure, class);
        if (i < CLASSES_SHOWN || is_suspect) {
            (void)snprintf(title, sizeof title, "%lld", (long long)class);
            put_class(out, item, title, largest, is_suspect);
        }
    }
    if (json_is_true(json_object_get(all, "suspect"))) {
        put_class(out, all, "every class to another", 0, true);
    }
    end_table(out);
    if (json_array_size(classes) > CLASSES_SHOWN) {
        (void)buf_printf(out, "<p class=\"faint\">Of %zu classes the first %d and all suspects are shown.</p>\n",
                         json_array_size(classes), CLASSES_SHOWN);
    }
}

static void put_channels(struct buf *out, const json_t *channels) {
    size_t i = 0;
    json_t *channel = NULL;
    (void)buf_append_text(out, "<td class=\"words long\">");
    json_array_foreach(channels, i, channel) {
        if (i == CHANNELS_SHOWN) {
            (void)buf_append_text(out, " \xe2\x80\xa6");
            break;
        }
        (void)buf_printf(out, "%s%lld", i > 0 ? " " : "", (long long)json_integer_value(channel));
    }
    (void)buf_append_text(out, "</td>");
}

static void put_pruned(struct buf *out, const json_t *report) {
    static const char *const titles[] = {"layer", "units", "<", "<channels"};
    const json_t *pruned = json_object_get(report, "pruned");
    size_t most = 0;
    size_t i = 0;
    json_t *item = NULL;
    if (json_array_size(pruned) == 0) {
        return;
    }
    json_array_foreach(pruned, i, item) {
        size_t count = json_array_size(json_object_get(item, "channels"));
        most = count > most ? count : most;
    }
    begin_table(out, "Pruned units", titles, 4);
    json_array_foreach(pruned, i, item) {
        const json_t *channels = json_object_get(item, "channels");
        if (i == LAYERS_SHOWN) {
            break;
        }
        (void)buf_append_text(out, "<tr><td class=\"words long\">");
        put_string(out, json_object_get(item, "layer"));
        (void)buf_printf(out, "</td><td>%zu</td>", json_array_size(channels));
        put_bar(out, most > 0 ? (double)json_array_size(channels) / (double)most : 0, NAN, false);
        put_channels(out, channels);
        (void)buf_append_text(out, "</tr>\n");
    }
    end_table(out);
    if (json_array_size(pruned) > LAYERS_SHOWN) {
        (void)buf_printf(out, "<p class=\"faint\">And %zu more layers.</p>\n", json_array_size(pruned) - LAYERS_SHOWN);
    }
}

struct range {
    double low, high;
};

/* One line of the chart; of many points the best of each share. */
static void put_line(struct buf *out, const json_t *curve, const char *member, struct range range) {
    size_t count = json_array_size(curve);
    size_t cells = count < POINTS_SHOWN ? count : POINTS_SHOWN;
    (void)buf_printf(out, "<polyline class=\"%s\" points=\"", member);
    for (size_t cell = 0; cell < cells; cell++) {
        double value = NAN;
        for (size_t i = cell * count / cells; i < (cell + 1) * count / cells; i++) {
            value = fmax(value, report_curve_value(json_array_get(curve, i), member)); /* passes over NaN */
        }
        if (isfinite(value)) {
            value = fmin(fmax(value, range.low), range.high);
            (void)buf_printf(out, "%.1f,%.1f ", (double)cell / (double)(cells - 1) * CHART_WIDTH,
                             (range.high - value) / (range.high - range.low) * CHART_HEIGHT);
        }
    }
    (void)buf_append_text(out, "\"/>");
}

static void put_curve(struct buf *out, const json_t *curve) {
    struct range range = {INFINITY, -INFINITY};
    size_t count = json_array_size(curve);
    for (size_t i = 0; i < count; i++) {
        double best = report_curve_value(json_array_get(curve, i), "best");
        range.low = fmin(range.low, best);
        range.high = fmax(range.high, best);
    }
    if (count < 2 || !(range.high > range.low)) {
        return;
    }
    (void)buf_printf(
        out,
        "<svg width=\"%d\" viewBox=\"-4 -16 %d %d\" role=\"img\" aria-label=\"Best reward so far: %.3f to %.3f\">"
        "<line class=\"axis\" x1=\"0\" x2=\"%d\" y1=\"0\" y2=\"0\"/>"
        "<line class=\"axis\" x1=\"0\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>"
        "<text x=\"0\" y=\"-4\">%.3f</text><text x=\"0\" y=\"%d\">%.3f</text>",
        CHART_WIDTH, CHART_WIDTH + 8, CHART_HEIGHT + 36, range.low, range.high, CHART_WIDTH, CHART_WIDTH, CHART_HEIGHT,
        CHART_HEIGHT, range.high, CHART_HEIGHT + 14, range.low);
    put_line(out, curve, "mean", range);
    put_line(out, curve, "best", range);
    (void)buf_append_text(out,
                          "</svg>\n<p class=\"faint\">Over the search: the best reward so far, and, dashed, the mean of"
                          " the masks that were tried.</p>\n");
}

static void put_search(struct buf *out, const json_t *report) {
    static const char *const titles[] = {"", "reward"};
    double value = 0;
    const json_t *search = json_object_get(report, "search");
    if (!json_is_object(search)) {
        return;
    }
    begin_table(out, "Search (reward: higher is better, 0 is best)", titles, 2);
    for (const struct report_row *row = report_rewards; row->title != NULL; row++) {
        if (report_number(report, row->before, &value)) {
            (void)buf_printf(out, "<tr><th scope=\"row\">%s</th><td>%.4f</td></tr>\n", row->title, value);
        }
    }
    end_table(out);
    if (report_number(report, "evaluations", &value)) {
        (void)buf_printf(out, "<p>%.0f masks were evaluated.</p>\n", value);
    }
    put_curve(out, json_object_get(search, "curve"));
}

static void put_seconds(struct buf *out, const json_t *report) {
    static const char *const titles[] = {"stage", "seconds", "<"};
    const json_t *seconds = json_object_get(report, "seconds");
    double total = 0;
    if (!report_number(report, "seconds", &total) || !(total > 0)) {
        return;
    }
    begin_table(out, "Seconds by stage", titles, 3);
    for (int i = 0; i < STAGE_COUNT; i++) {
        const char *name = job_stage_name((enum job_stage)i);
        const json_t *value = json_object_get(seconds, name);
        if (json_is_number(value)) {
            (void)buf_printf(out, "<tr><th scope=\"row\">%s</th><td>%.2f</td>", name, json_number_value(value));
            put_bar(out, json_number_value(value) / total, NAN, false);
            (void)buf_append_text(out, "</tr>\n");
        }
    }
    (void)buf_printf(out, "<tr><th scope=\"row\">total</th><td>%.2f</td><td></td></tr>\n", total);
    end_table(out);
}

/* What it is a report of: a page is kept longer than the job. */
static void put_origin(struct buf *out, const json_t *report) {
    static const char *const titles[] = {"", "<"};
    const struct {
        const char *title, *object, *member;
    } rows[] = {{"model (SHA-256)", "model", "sha256"},
                {"samples (SHA-256)", "samples", "sha256"},
                {"version", "provenance", "version"},
                {"backend", "provenance", "backend"}};
    begin_table(out, "Made from, and by", titles, 2);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        (void)buf_printf(out, "<tr><th scope=\"row\">%s</th><td class=\"words long\">", rows[i].title);
        put_string(out, json_object_get(json_object_get(report, rows[i].object), rows[i].member));
        (void)buf_append_text(out, "</td></tr>\n");
    }
    end_table(out);
}

void report_html_write(struct buf *out, const json_t *report) {
    (void)buf_append_text(out, HEAD);
    put_verdict(out, report);
    put_summary(out, report);
    put_exposure(out, report);
    put_pruned(out, report);
    put_search(out, report);
    put_seconds(out, report);
    put_origin(out, report);
    (void)buf_append_text(out, "</body>\n</html>\n");
}
