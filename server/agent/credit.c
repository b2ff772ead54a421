/* The credit model. See credit.h for what it computes and why. */
#include "server/agent/credit.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"

enum {
    ROWS_MAX = 512, /* evaluations in the fit: those nearest to the base */
    COMMON = 3      /* u_prune, u_keep, v */
};
static const double noise_grid[] = {0.03, 0.1, 0.3, 1, 3, 10};
static const double common_variance = 4; /* of u and v, in units of s: hardly shrunk */

struct row {
    size_t entry;
    size_t distance;
};

struct credit {
    size_t actions, count, capacity;
    uint8_t *masks; /* (capacity, actions) */
    double *rewards;
    uint64_t *hashes;
    size_t *slots; /* open addressing: entry + 1, 0 = empty */
    size_t slot_count;

    struct row *rows;         /* (ROWS_MAX + 1) */
    double *kernel, *factor;  /* (ROWS_MAX, ROWS_MAX) */
    double *target, *weights; /* (ROWS_MAX) */
    double *common;           /* (ROWS_MAX, COMMON) */
    size_t *flips;            /* (ROWS_MAX, actions) compressed: rows of flipped actions */
    size_t *flip_start;       /* (ROWS_MAX + 1) */
    size_t flip_capacity;
};

static uint64_t hash_mask(const uint8_t *mask, size_t count) {
    uint64_t hash = 0xcbf29ce484222325U; /* FNV-1a */
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ mask[i]) * 0x100000001b3U;
    }
    return hash;
}

enum status credit_new(size_t actions, struct credit **out, struct error *error) {
    struct credit *credit = mem_calloc(1, sizeof *credit);
    if (credit == NULL) {
        return error_no_memory(error, "credit model");
    }
    credit->actions = actions;
    credit->rows = mem_calloc(ROWS_MAX + 1, sizeof *credit->rows);
    credit->kernel = mem_alloc((size_t)ROWS_MAX * ROWS_MAX, sizeof *credit->kernel);
    credit->factor = mem_alloc((size_t)ROWS_MAX * ROWS_MAX, sizeof *credit->factor);
    credit->target = mem_alloc(ROWS_MAX, sizeof *credit->target);
    credit->weights = mem_alloc(ROWS_MAX, sizeof *credit->weights);
    credit->common = mem_alloc((size_t)ROWS_MAX * COMMON, sizeof *credit->common);
    credit->flip_start = mem_calloc(ROWS_MAX + 1, sizeof *credit->flip_start);
    if (credit->rows == NULL || credit->kernel == NULL || credit->factor == NULL || credit->target == NULL ||
        credit->weights == NULL || credit->common == NULL || credit->flip_start == NULL) {
        credit_free(credit);
        return error_no_memory(error, "credit model");
    }
    *out = credit;
    return STATUS_OK;
}

void credit_free(struct credit *credit) {
    if (credit == NULL) {
        return;
    }
    mem_free(credit->masks);
    mem_free(credit->rewards);
    mem_free(credit->hashes);
    mem_free(credit->slots);
    mem_free(credit->rows);
    mem_free(credit->kernel);
    mem_free(credit->factor);
    mem_free(credit->target);
    mem_free(credit->weights);
    mem_free(credit->common);
    mem_free(credit->flips);
    mem_free(credit->flip_start);
    mem_free(credit);
}

void credit_reset(struct credit *credit) {
    credit->count = 0;
    if (credit->slots != NULL) {
        memset(credit->slots, 0, credit->slot_count * sizeof *credit->slots);
    }
}

size_t credit_count(const struct credit *credit) {
    return credit->count;
}

/* The slot that holds the mask, or the empty one where it belongs. */
static size_t find_slot(const struct credit *credit, const uint8_t *mask, uint64_t hash) {
    size_t slot = (size_t)hash & (credit->slot_count - 1);
    while (credit->slots[slot] != 0) {
        size_t entry = credit->slots[slot] - 1;
        if (credit->hashes[entry] == hash &&
            memcmp(credit->masks + entry * credit->actions, mask, credit->actions) == 0) {
            break;
        }
        slot = (slot + 1) & (credit->slot_count - 1);
    }
    return slot;
}

bool credit_find(const struct credit *credit, const uint8_t *mask, double *reward) {
    if (credit->count == 0) {
        return false;
    }
    size_t slot = find_slot(credit, mask, hash_mask(mask, credit->actions));
    if (credit->slots[slot] == 0) {
        return false;
    }
    if (reward != NULL) {
        *reward = credit->rewards[credit->slots[slot] - 1];
    }
    return true;
}

/* Doubles all arrays; the table keeps at least half of its slots empty. */
static bool grow(struct credit *credit) {
    size_t capacity = credit->capacity == 0 ? 64 : credit->capacity * 2;
    uint8_t *masks = mem_realloc(credit->masks, capacity, credit->actions);
    credit->masks = masks != NULL ? masks : credit->masks;
    double *rewards = mem_realloc(credit->rewards, capacity, sizeof *rewards);
    credit->rewards = rewards != NULL ? rewards : credit->rewards;
    uint64_t *hashes = mem_realloc(credit->hashes, capacity, sizeof *hashes);
    credit->hashes = hashes != NULL ? hashes : credit->hashes;
    size_t *slots = mem_calloc(capacity * 2, sizeof *slots);
    if (masks == NULL || rewards == NULL || hashes == NULL || slots == NULL) {
        mem_free(slots);
        return false;
    }
    mem_free(credit->slots);
    credit->slots = slots;
    credit->slot_count = capacity * 2;
    credit->capacity = capacity;
    for (size_t i = 0; i < credit->count; i++) {
        credit->slots[find_slot(credit, masks + i * credit->actions, hashes[i])] = i + 1;
    }
    return true;
}

enum status credit_add(struct credit *credit, const uint8_t *mask, double reward, struct error *error) {
    if (credit_find(credit, mask, NULL)) {
        return STATUS_OK;
    }
    if (credit->count == credit->capacity && !grow(credit)) {
        return error_no_memory(error, "evaluated masks");
    }
    size_t entry = credit->count++;
    memcpy(credit->masks + entry * credit->actions, mask, credit->actions);
    credit->rewards[entry] = reward;
    credit->hashes[entry] = hash_mask(mask, credit->actions);
    credit->slots[find_slot(credit, mask, credit->hashes[entry])] = entry + 1;
    return STATUS_OK;
}

/* The rows of the fit: entries nearest to the base (not the base itself), nearest first, later ones first among equals. */
static size_t choose_rows(struct credit *credit, const uint8_t *base) {
    size_t count = 0;
    for (size_t i = credit->count; i-- > 0;) {
        const uint8_t *mask = credit->masks + i * credit->actions;
        size_t distance = 0;
        for (size_t a = 0; a < credit->actions; a++) {
            distance += mask[a] != base[a];
        }
        if (distance == 0 || !isfinite(credit->rewards[i])) {
            continue;
        }
        size_t at = count < ROWS_MAX ? count++ : ROWS_MAX;
        while (at > 0 && credit->rows[at - 1].distance > distance) {
            credit->rows[at] = credit->rows[at - 1];
            at--;
        }
        credit->rows[at] = (struct row){.entry = i, .distance = distance};
    }
    return count;
}

/* Lists each row's flips and the sums that go with the common coefficients. */
static enum status list_flips(struct credit *credit, size_t rows, const uint8_t *base, const float *belief,
                              struct error *error) {
    size_t total = 0;
    for (size_t i = 0; i < rows; i++) {
        total += credit->rows[i].distance;
    }
    if (total > credit->flip_capacity) {
        size_t *flips = mem_realloc(credit->flips, total, sizeof *flips);
        if (flips == NULL) {
            return error_no_memory(error, "credit model");
        }
        credit->flips = flips;
        credit->flip_capacity = total;
    }
    size_t at = 0;
    for (size_t i = 0; i < rows; i++) {
        const uint8_t *mask = credit->masks + credit->rows[i].entry * credit->actions;
        double *common = credit->common + i * COMMON;
        common[0] = common[1] = common[2] = 0;
        for (size_t a = 0; a < credit->actions; a++) {
            if (mask[a] != base[a]) {
                credit->flips[at++] = a;
                common[base[a] != 0 ? 1 : 0] += 1;
                common[2] += (double)belief[a];
            }
        }
        credit->flip_start[i + 1] = at;
    }
    return STATUS_OK;
}

/* kernel (rows, rows): covariance of the rewards without noise, in units of s. seen (actions) is work space, all zero. */
static void fill_kernel(struct credit *credit, size_t rows, uint8_t *seen) {
    for (size_t i = 0; i < rows; i++) {
        for (size_t f = credit->flip_start[i]; f < credit->flip_start[i + 1]; f++) {
            seen[credit->flips[f]] = 1;
        }
        for (size_t j = 0; j <= i; j++) {
            double sum = 0;
            for (size_t f = credit->flip_start[j]; f < credit->flip_start[j + 1]; f++) {
                sum += seen[credit->flips[f]];
            }
            for (size_t k = 0; k < COMMON; k++) {
                sum += common_variance * credit->common[i * COMMON + k] * credit->common[j * COMMON + k];
            }
            credit->kernel[i * rows + j] = sum;
        }
        for (size_t f = credit->flip_start[i]; f < credit->flip_start[i + 1]; f++) {
            seen[credit->flips[f]] = 0;
        }
    }
}

/* weights = (kernel + noise * diag(distance))^-1 target by Cholesky; returns the log likelihood, s profiled out, and *scale = s. */
static double solve(struct credit *credit, size_t rows, double noise, double *scale) {
    double *l = credit->factor, *y = credit->weights, log_determinant = 0, square = 0;
    for (size_t i = 0; i < rows; i++) {
        double *row = l + i * rows;
        for (size_t j = 0; j <= i; j++) {
            const double *other = l + j * rows;
            double sum = credit->kernel[i * rows + j];
            if (i == j) {
                sum += noise * (double)credit->rows[i].distance;
            }
            for (size_t k = 0; k < j; k++) {
                sum -= row[k] * other[k];
            }
            row[j] = i == j ? sqrt(fmax(sum, 1e-12)) : sum / other[j];
        }
        double sum = credit->target[i];
        for (size_t k = 0; k < i; k++) {
            sum -= row[k] * y[k];
        }
        y[i] = sum / row[i];
        log_determinant += 2 * log(row[i]);
        square += y[i] * y[i];
    }
    for (size_t i = rows; i-- > 0;) {
        y[i] /= l[i * rows + i];
        for (size_t k = 0; k < i; k++) {
            y[k] -= l[i * rows + k] * y[i];
        }
    }
    *scale = square / (double)rows;
    return -0.5 * ((double)rows * log(fmax(*scale, 1e-300)) + log_determinant);
}

enum status credit_fit(struct credit *credit, const uint8_t *base, const float *belief, double *gain, double *own,
                       double *scale, struct error *error) {
    double base_reward = 0, coefficient[COMMON] = {0}, square = 0, best = -INFINITY, chosen = noise_grid[0];
    *scale = 0;
    memset(own, 0, credit->actions * sizeof *own);
    memset(gain, 0, credit->actions * sizeof *gain);
    if (!credit_find(credit, base, &base_reward)) {
        return error_set(
            error, STATUS_INTERNAL, NULL,
            "failed to fit the credit model: got a base mask that was never evaluated, expected one that was");
    }
    size_t rows = choose_rows(credit, base);
    if (rows == 0) {
        return STATUS_OK;
    }
    enum status status = list_flips(credit, rows, base, belief, error);
    uint8_t *seen = mem_calloc(credit->actions, sizeof *seen);
    if (status != STATUS_OK || seen == NULL) {
        mem_free(seen);
        return status != STATUS_OK ? status : error_no_memory(error, "credit model");
    }
    fill_kernel(credit, rows, seen);
    mem_free(seen);
    for (size_t i = 0; i < rows; i++) {
        credit->target[i] = credit->rewards[credit->rows[i].entry] - base_reward;
    }
    for (size_t n = 0; n < sizeof noise_grid / sizeof *noise_grid; n++) {
        double likelihood = solve(credit, rows, noise_grid[n], &square);
        if (likelihood > best) {
            best = likelihood;
            chosen = noise_grid[n];
        }
    }
    (void)solve(credit, rows, chosen, &square);
    for (size_t i = 0; i < rows; i++) {
        for (size_t k = 0; k < COMMON; k++) {
            coefficient[k] += common_variance * credit->common[i * COMMON + k] * credit->weights[i];
        }
        for (size_t f = credit->flip_start[i]; f < credit->flip_start[i + 1]; f++) {
            own[credit->flips[f]] += credit->weights[i];
        }
    }
    *scale = sqrt(square);
    for (size_t a = 0; a < credit->actions; a++) {
        gain[a] = own[a] + coefficient[base[a] != 0 ? 1 : 0] + coefficient[2] * (double)belief[a];
    }
    return STATUS_OK;
}
