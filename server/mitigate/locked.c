/* Clean figures from the logits that are there; triggered ones from runs of their own. */
#include "server/mitigate/locked.h"

#include "common/mem.h"
#include "server/nn/loss.h"

static void compare_clean(const struct job *job, struct locked_figures *out) {
    const size_t classes = job->info.classes;
    size_t lost = 0, won = 0;
    for (size_t i = 0; i < job->split->locked_count; i++) {
        const size_t row = job->split->locked[i], label = (size_t)job->samples->labels[row];
        const bool before = loss_argmax(classes, job->logits0 + row * classes) == label;
        const bool after = loss_argmax(classes, job->logits1 + row * classes) == label;
        out->hits_before += before;
        out->hits_after += after;
        lost += before && !after;
        won += after && !before;
    }
    out->count = job->split->locked_count;
    out->drop_low = metrics_drop_low(lost, won, out->count);
}

struct triggered_run {
    const struct job *job;
    const struct trigger *trigger;
};

static void fill_triggered(void *user, size_t first, size_t n, float *x) {
    const struct triggered_run *t = user;
    const size_t floats = t->job->image_floats;
    for (size_t i = 0; i < n; i++) {
        const float *image = t->job->images + t->job->split->locked[first + i] * floats;
        trigger_apply(t->trigger, &t->job->range, image, x + i * floats);
    }
}

static enum status count_obeyed(struct job *job, const struct trigger *trigger, float *logits,
                                struct locked_figures *out, struct error *error) {
    const size_t classes = job->info.classes;
    struct triggered_run user = {job, trigger};
    const struct engine_run run = {.count = job->split->locked_count,
                                   .user = &user,
                                   .fill_input = fill_triggered,
                                   .mask = job->mask,
                                   .fill = job->fill,
                                   .logits = logits,
                                   .cancel = job_cancel(job)};
    const enum status status = engine_run(job->forward, &run, error);
    for (size_t i = 0; i < run.count && status == STATUS_OK; i++) {
        const size_t row = job->split->locked[i];
        const int32_t predicted = (int32_t)loss_argmax(classes, job->logits0 + row * classes);
        const int32_t source = trigger_source(trigger, job->samples->labels[row], predicted);
        const int32_t goal = trigger_goal(trigger, source);
        if (goal != source && goal != TRIGGER_AWAY) {
            out->triggered++;
            out->obeyed += loss_argmax(classes, logits + i * classes) == (size_t)goal;
        }
    }
    return status;
}

enum status locked_measure(struct job *job, struct locked_figures *out, struct error *error) {
    const size_t bank_count = job->exposure == NULL ? 0 : job->exposure->bank_count;
    struct locked_figures figures = {0};
    float *logits = mem_alloc(job->split->locked_count * job->info.classes, sizeof *logits);
    enum status status = logits == NULL ? error_no_memory(error, "the locked logits") : STATUS_OK;
    compare_clean(job, &figures);
    for (size_t w = 0; w < bank_count && figures.count > 0 && status == STATUS_OK; w++) {
        status = count_obeyed(job, job->exposure->bank[w], logits, &figures, error);
    }
    mem_free(logits);
    if (status == STATUS_OK) {
        *out = figures;
    }
    return status;
}
