/* Reading and writing of policy files. */
#include "server/agent/policy_file.h"

#include <math.h>
#include <string.h>

#include "common/digest.h"
#include "common/embedded.h"
#include "common/mem.h"

enum {
    MAGIC_LENGTH = 8,
    HEADER_WORDS = 5,
    HEADER_LENGTH = MAGIC_LENGTH + HEADER_WORDS * 4,
    DIGEST_LENGTH = DIGEST_HEX_SIZE - 1,
    FEATURES_MAX = 256,
    WIDTH_MAX = 256,
    LAYERS_MAX = 8
};
static const char magic[MAGIC_LENGTH] = {'O', 'N', 'P', 'P', 'O', 'L', '0', '1'};
static const float PARAMETER_MAX = 1e4F; /* beyond, logits overflow */

static void put_u32(uint8_t *to, uint32_t value) {
    for (size_t i = 0; i < 4; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint32_t get_u32(const uint8_t *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

enum status policy_save(struct policy *policy, const char *features, uint8_t **bytes, size_t *length,
                        struct error *error) {
    const struct policy_shape *shape = policy_shape_of(policy);
    const size_t names = strlen(features), count = policy_parameter_count(policy);
    const size_t signed_length = HEADER_LENGTH + names + 4 * count;
    const float *parameters = policy_parameters(policy);
    uint8_t *out = mem_alloc(signed_length + DIGEST_HEX_SIZE, 1);
    if (out == NULL) {
        return error_no_memory(error, "a policy's file");
    }
    const size_t words[HEADER_WORDS] = {shape->feature_count, shape->width, shape->layers, RELATION_COUNT, names};
    memcpy(out, magic, MAGIC_LENGTH);
    for (size_t i = 0; i < HEADER_WORDS; i++) {
        put_u32(out + MAGIC_LENGTH + 4 * i, (uint32_t)words[i]);
    }
    memcpy(out + HEADER_LENGTH, features, names);
    for (size_t i = 0; i < count; i++) {
        uint32_t word;
        memcpy(&word, &parameters[i], sizeof word);
        put_u32(out + HEADER_LENGTH + names + 4 * i, word);
    }
    char digest[DIGEST_HEX_SIZE];
    digest_bytes(out, signed_length, digest);
    memcpy(out + signed_length, digest, DIGEST_LENGTH);
    *bytes = out;
    *length = signed_length + DIGEST_LENGTH;
    return STATUS_OK;
}

static enum status refuse(struct error *error, const char *got, const char *expected) {
    return error_set(error, STATUS_INVALID, "policy", "failed to load a policy: got %s, expected %s", got, expected);
}

/* The header, the digest, and that the features are those. */
static enum status check_file(const uint8_t *bytes, size_t length, const char *features, struct policy_shape *shape,
                              struct error *error) {
    char digest[DIGEST_HEX_SIZE];
    if (length < HEADER_LENGTH + DIGEST_LENGTH || memcmp(bytes, magic, MAGIC_LENGTH) != 0) {
        return refuse(error, "another kind of file", "a policy");
    }
    digest_bytes(bytes, length - DIGEST_LENGTH, digest);
    if (memcmp(bytes + length - DIGEST_LENGTH, digest, DIGEST_LENGTH) != 0) {
        return refuse(error, "a file whose digest does not fit", "the file as it was written");
    }
    const uint8_t *words = bytes + MAGIC_LENGTH;
    const size_t names = get_u32(words + 16);
    *shape = (struct policy_shape){get_u32(words), get_u32(words + 4), get_u32(words + 8)};
    if (shape->feature_count == 0 || shape->feature_count > FEATURES_MAX || shape->width == 0 ||
        shape->width > WIDTH_MAX || shape->layers == 0 || shape->layers > LAYERS_MAX ||
        get_u32(words + 12) != RELATION_COUNT) {
        return refuse(error, "a shape out of range", "at most 256 features, width 256 and 8 layers");
    }
    if (names > length - HEADER_LENGTH - DIGEST_LENGTH || names != strlen(features) ||
        memcmp(bytes + HEADER_LENGTH, features, names) != 0) {
        return refuse(error, "one that was trained on other features", "one of this version's");
    }
    return STATUS_OK;
}

enum status policy_load(const uint8_t *bytes, size_t length, const char *features, struct policy **out,
                        struct error *error) {
    struct policy_shape shape = {0};
    struct policy *policy = NULL;
    struct rng rng;
    enum status status = check_file(bytes, length, features, &shape, error);
    if (status == STATUS_OK) {
        rng_seed(&rng, 0); /* every weight is overwritten */
        status = policy_new(&shape, &rng, &policy, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const size_t names = strlen(features), count = policy_parameter_count(policy);
    if (length != HEADER_LENGTH + names + 4 * count + DIGEST_LENGTH) {
        policy_free(policy);
        return refuse(error, "a length that does not fit the shape", "the file as it was written");
    }
    float *parameters = policy_parameters(policy);
    for (size_t i = 0; i < count; i++) {
        const uint32_t word = get_u32(bytes + HEADER_LENGTH + names + 4 * i);
        memcpy(&parameters[i], &word, sizeof word);
        if (!(fabsf(parameters[i]) <= PARAMETER_MAX)) {
            policy_free(policy);
            return refuse(error, "a weight that is no small number", "finite weights");
        }
    }
    *out = policy;
    return STATUS_OK;
}

enum status policy_load_builtin(const char *features, struct policy **out, struct error *error) {
    for (const struct embedded_file *file = embedded_policy; file->name != NULL; file++) {
        if (strcmp(file->name, "policy.bin") == 0) {
            return policy_load(file->data, file->size, features, out, error);
        }
    }
    return error_set(error, STATUS_INTERNAL, "policy",
                     "failed to load the built-in policy: got a build without weights, expected policy.bin");
}
