/* Running a program: one step is one operation for a whole chunk, or for each sample of a last, smaller one. */
#include "server/nn/backend_dnnl_program.h"

#include "common/mem.h"
#include "server/nn/backend_dnnl_build.h"

enum status backend_dnnl_program_new(const struct network *network, size_t chunk, size_t threads,
                                     enum backend_dnnl_type type, struct backend_dnnl_program **out,
                                     struct error *error) {
    struct backend_dnnl_program *p = mem_calloc(1, sizeof *p);

    if (p == NULL) {
        return error_no_memory(error, "program of a network");
    }
    p->network = network;
    p->chunk = chunk;
    p->threads = threads;
    p->type = type;
    atomic_init(&p->failed, false);
    const enum status status = backend_dnnl_build(p, error);
    if (status != STATUS_OK) {
        backend_dnnl_program_free(p);
        return status;
    }
    *out = p;
    return STATUS_OK;
}

void backend_dnnl_program_free(struct backend_dnnl_program *p) {
    if (p == NULL) {
        return;
    }
    for (size_t u = 0; u < p->unit_count; u++) {
        backend_dnnl_free_step(p, &p->units[u].step);
        mem_free(p->units[u].vector[0]);
        mem_free(p->units[u].vector[1]);
        mem_free(p->units[u].fold);
    }
    for (size_t v = 0; p->places != NULL && v < p->network->value_count; v++) {
        backend_dnnl_free_step(p, &p->places[v].carry);
    }
    for (size_t t = 0; p->arenas != NULL && t < p->threads; t++) {
        mem_free(p->arenas[t]);
    }
    mem_free(p->arenas);
    mem_free(p->buffers);
    mem_free(p->places);
    mem_free(p->consumer);
    mem_free(p->used);
    mem_free(p->unit_at);
    mem_free(p->units);
    backend_dnnl_free(p->dnnl);
    mem_free(p);
}

size_t backend_dnnl_program_bytes(const struct backend_dnnl_program *p) {
    return p->weight_bytes + p->threads * (p->arena_bytes + p->scratch_bytes);
}

/* Runs a step over n samples: at once, or if they are fewer than a chunk, one by one. */
static void run_step(struct backend_dnnl_program *p, const struct dnnl_step *step, size_t thread, size_t n,
                     void **pointers, size_t count) {
    void *scratch = p->arenas[thread] + p->arena_bytes;
    bool ok = true;

    if (n == p->chunk) {
        ok = backend_dnnl_run(step->calls[thread * VARIANTS + WHOLE], pointers, scratch);
    }
    for (size_t i = 0; i < n && n < p->chunk && ok; i++) {
        ok = backend_dnnl_run(step->calls[thread * VARIANTS + SINGLE], pointers, scratch);
        for (size_t a = 0; a < count; a++) {
            if (pointers[a] != NULL) {
                pointers[a] = (unsigned char *)pointers[a] + backend_dnnl_bytes(step->op[SINGLE], a);
            }
        }
    }
    if (!ok) {
        atomic_store(&p->failed, true);
    }
}

/* The fast form of a value; oneDNN's arguments know no const. */
static void *fast_of(const struct backend_dnnl_program *p, size_t thread, size_t value, const float *plain) {
    const struct dnnl_place *place = &p->places[value];
    union {
        const void *in;
        void *out;
    } pointer = {.in = plain};

    return place->same ? pointer.out : p->arenas[thread] + p->buffers[place->buffer].offset * 4;
}

void backend_dnnl_program_take(struct backend_dnnl_program *p, size_t thread, size_t value, size_t n,
                               const float *const *read) {
    const struct dnnl_place *place = &p->places[value];
    union {
        const void *in;
        void *out;
    } plain = {.in = read[value]};

    if (place->carry.op[WHOLE] != NULL && !place->fast) {
        void *pointers[] = {plain.out, fast_of(p, thread, value, NULL), NULL, NULL, NULL};
        backend_dnnl_enter();
        run_step(p, &place->carry, thread, n, pointers, BACKEND_DNNL_ARGS);
    }
}

bool backend_dnnl_program_step(struct backend_dnnl_program *p, size_t thread, size_t node, size_t n, const float **read,
                               float *const *write) {
    void *pointers[BACKEND_DNNL_ARGS_MAX] = {NULL};
    size_t count = BACKEND_DNNL_ARGS;

    if (p->unit_at[node] == PLAN_NONE) {
        return p->used[node];
    }
    const struct dnnl_unit *unit = &p->units[p->unit_at[node]];
    const struct backend_dnnl_group *group = &unit->group;
    const struct dnnl_place *place = &p->places[group->output];
    const bool plain = place->same || !place->fast;
    pointers[BACKEND_DNNL_INPUT] = fast_of(p, thread, group->input, read[group->input]);
    pointers[BACKEND_DNNL_OUTPUT] = plain ? write[group->output] : fast_of(p, thread, group->output, NULL);
    if (group->kind == GROUP_CONCAT) {
        const struct node *head = &p->network->nodes[group->nodes[0]];
        count = head->input_count + 1;
        for (size_t k = 1; k < head->input_count; k++) {
            pointers[1 + k] = fast_of(p, thread, head->inputs[k], read[head->inputs[k]]);
        }
    } else if (group->other != NETWORK_NONE) {
        pointers[BACKEND_DNNL_OTHER] = fast_of(p, thread, group->other, read[group->other]);
    }
    backend_dnnl_enter();
    run_step(p, &unit->step, thread, n, pointers, count);
    if (plain) {
        read[group->output] = write[group->output];
        backend_dnnl_program_take(p, thread, group->output, n, read);
    } else if (place->carry.op[WHOLE] != NULL) {
        void *back[] = {fast_of(p, thread, group->output, NULL), write[group->output], NULL, NULL, NULL};
        run_step(p, &place->carry, thread, n, back, BACKEND_DNNL_ARGS);
        read[group->output] = write[group->output];
    }
    return true;
}

bool backend_dnnl_program_runs(const struct backend_dnnl_program *p, size_t node) {
    return p->used[node];
}

bool backend_dnnl_program_failed(const struct backend_dnnl_program *p) {
    return atomic_load(&p->failed);
}
