/* Images of a block, and runs over them. */
#include "server/mitigate/score_block.h"

#include <string.h>

#include "common/mem.h"
#include "server/nn/loss.h"

/* A step through the samples that visits all before it repeats, and soon all classes, however the samples are ordered. */
static size_t stride_of(size_t samples) {
    size_t stride = samples * 5 / 8 + 1;
    for (;; stride++) {
        size_t a = stride, b = samples;
        while (b != 0) {
            const size_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1) {
            return stride;
        }
    }
}

/* Every second triggered image has a trigger this much stronger than the one that was found. */
static const float STRONGER = 1.2F;

/* One image: sample `index`, clean or triggered, and what is wanted of it. */
static void make_image(struct score_block *block, size_t row, size_t index, const struct trigger *trigger,
                       float strength) {
    const struct job *job = block->job;
    const size_t floats = job->image_floats, classes = job->info.classes;
    const float *clean = job->images + index * floats;
    if (trigger == NULL) {
        memcpy(block->images + row * floats, clean, floats * sizeof *clean);
    } else {
        trigger_apply_at(trigger, &job->range, strength, clean, block->images + row * floats);
    }
    memcpy(block->p0 + row * classes, job->p0 + index * classes, classes * sizeof *block->p0);
}

enum status score_block_make(const struct job *job, const struct score_range *range, size_t prefix_bytes,
                             struct score_block *block, struct error *error) {
    const struct exposure *exposure = job->exposure;
    const size_t samples = job->split->score_count, stride = stride_of(samples);
    const size_t all = job->build_and_score_count, clean_stride = stride_of(all);
    const size_t clean = range->clean_end - range->clean_first;
    const size_t triggered = exposure->bank_count * (range->each_end - range->each_first);
    const size_t count = clean + triggered;
    *block = (struct score_block){.job = job, .clean = clean, .triggered = triggered};
    block->images = mem_alloc(count * job->image_floats, sizeof *block->images);
    block->p0 = mem_alloc(count * job->info.classes, sizeof *block->p0);
    block->logits = mem_alloc(count * job->info.classes, sizeof *block->logits);
    block->kl = mem_alloc(count, sizeof *block->kl);
    if (block->images == NULL || block->p0 == NULL || block->logits == NULL || block->kl == NULL) {
        return error_no_memory(error, "the scoring images");
    }
    size_t row = 0;
    for (size_t i = range->clean_first; i < range->clean_end; i++) {
        make_image(block, row++, job->build_and_score[i * clean_stride % all], NULL, 0.0F);
    }
    for (size_t w = 0; w < exposure->bank_count; w++) {
        for (size_t i = range->each_first; i < range->each_end; i++) {
            const size_t sample = (w * range->each + i) * stride % samples;
            make_image(block, row++, job->split->score[sample], exposure->bank[w], i % 2 == 1 ? STRONGER : 1.0F);
        }
    }
    return prefix_cache_new(job->forward, count, prefix_bytes, &block->prefixes, error);
}

void score_block_free(struct score_block *block) {
    prefix_cache_free(block->prefixes);
    mem_free(block->images);
    mem_free(block->p0);
    mem_free(block->logits);
    mem_free(block->kl);
    *block = (struct score_block){0};
}

enum status score_block_run(struct score_block *block, const float *mask, const float *fill, bool rank,
                            struct error *error) {
    const struct job *job = block->job;
    const size_t classes = job->info.classes, count = block->clean + block->triggered;
    const struct engine_run run = {.count = count,
                                   .input = block->images,
                                   .mask = mask,
                                   .fill = fill,
                                   .logits = block->logits,
                                   .rank = rank,
                                   .cancel = job_cancel(job)};
    const enum status status =
        rank ? engine_run(job->forward, &run, error) : prefix_cache_run(block->prefixes, &run, error);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        block->kl[i] = (float)loss_kl(1, classes, block->p0 + i * classes, block->logits + i * classes, 0.0F, NULL);
    }
    return status;
}
