/* The Nth allocation fails, and all after it, for every N, over the entry points that read what strangers send and over the daemon's
 * own: the answer is an error with words, or a result; never a crash, and (with a sanitizer) never a leak. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"
#include "server/data/samples.h"
#include "server/jobs/job_message.h"
#include "server/onnx/onnx_model.h"
#include "tests/unit/jobs/fake_methods.h"

enum { NTH_MAX = 20000 };

struct input {
    struct fixture *fixture;
    const char *path; /* of a file */
    char *bytes;
    size_t length;
};

/* One entry point: STATUS_OK if it did its work, and it leaves nothing behind. */
typedef enum status entry(struct input *input, struct error *error);

static void fail_each(entry *run, struct input *input, size_t at_least) {
    size_t failed = 0;
    for (uint64_t n = 1; n < NTH_MAX; n++) {
        struct error error = {0};
        uint64_t before = mem_allocation_count();
        mem_fail_after(n);
        enum status status = run(input, &error);
        mem_fail_after(0);
        if (status == STATUS_OK && mem_allocation_count() - before < n) {
            assert_true(failed >= at_least);
            return; /* it needs fewer than this */
        }
        if (status != STATUS_OK) {
            failed++;
            assert_true(error.message[0] != '\0');
        }
    }
    fail_msg("more than %d allocations", NTH_MAX);
}

static enum status load_model(struct input *input, struct error *error) {
    struct onnx_model *model = NULL;
    uint8_t *written = NULL;
    size_t length = 0;
    enum status status =
        onnx_model_load((const uint8_t *)input->bytes, input->length, &onnx_default_limits, &model, error);
    if (status == STATUS_OK) {
        status = onnx_model_write(model, NULL, 0, NULL, 0, &written, &length, error);
    }
    mem_free(written);
    onnx_model_free(model);
    return status;
}

static void reading_models(void **state) {
    static const char folder[] = "tests/data/onnx_good";
    struct error error = {0};
    size_t models = 0;
    (void)state;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (const struct dirent *found = readdir(dir); found != NULL; found = readdir(dir)) {
        char path[PATH_MAX];
        struct input input = {0};
        snprintf(path, sizeof path, "%s/%s/model.onnx", folder, found->d_name);
        if (found->d_name[0] == '.' || access(path, R_OK) != 0) {
            continue;
        }
        assert_ok(file_read(path, 8 << 20, &input.bytes, &input.length, &error), &error);
        fail_each(load_model, &input, 5);
        mem_free(input.bytes);
        models++;
    }
    closedir(dir);
    assert_true(models >= 50);
}

static enum status load_samples(struct input *input, struct error *error) {
    struct samples *samples = NULL;
    enum status status = samples_load(input->path, &samples_default_limits, &samples, error);
    samples_free(samples);
    return status;
}

static void reading_samples(void **state) {
    struct fixture *f = *state;
    static const uint8_t pixels[2 * 3 * 2 * 2] = {1, 2, 3};
    static const int32_t labels[2] = {0, 1};
    static const float mean[3] = {0.5F, 0.5F, 0.5F}, std[3] = {0.2F, 0.2F, 0.2F};
    const struct samples_source source = {.count = 2,
                                          .channels = 3,
                                          .height = 2,
                                          .width = 2,
                                          .pixels = pixels,
                                          .labels = labels,
                                          .targets = labels,
                                          .mean = mean,
                                          .std = std};
    struct error error = {0};
    struct input input = {.path = scratch_path(&f->scratch, "samples.npz")};
    assert_ok(samples_save(input.path, &source, &error), &error);
    fail_each(load_samples, &input, 5);
}

static enum status read_messages(struct input *input, struct error *error) {
    const struct error problem = {.status = STATUS_INVALID, .message = "m"};
    struct job_message message;
    (void)input;
    char *line = job_message_error(&problem);
    if (line == NULL) {
        return error_no_memory(error, "a message");
    }
    enum status status = job_message_parse(line, strlen(line), &message, error);
    mem_free(line);
    return status;
}

static void talking_to_children(void **state) {
    struct input input = {.fixture = *state};
    fail_each(read_messages, &input, 1);
}

static enum status open_store(struct input *input, struct error *error) {
    struct store *store = NULL;
    enum status status = store_open(input->path, NULL, &store, error);
    store_close(store);
    return status;
}

static void opening_the_store(void **state) {
    struct fixture *f = *state;
    struct input input = {.path = scratch_path(&f->scratch, "another")};
    fail_each(open_store, &input, 2);
}

static enum status start_jobs(struct input *input, struct error *error) {
    struct jobs *jobs = NULL;
    enum status status = jobs_start(input->fixture->store, &fake_methods, &input->fixture->options, &jobs, error);
    jobs_stop(jobs, 0);
    return status;
}

static void starting_jobs(void **state) {
    struct input input = {.fixture = *state};
    struct jobs *jobs = NULL;
    struct error error = {0};
    /* The workers allocate on their own after the start: only its own first ones are counted. */
    for (uint64_t n = 1; n <= 4; n++) {
        struct error why = {0};
        mem_fail_after(n);
        enum status status = start_jobs(&input, &why);
        mem_fail_after(0);
        assert_true(status == STATUS_OK || why.message[0] != '\0');
    }
    assert_ok(jobs_start(input.fixture->store, &fake_methods, &input.fixture->options, &jobs, &error), &error);
    jobs_stop(jobs, 0);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(reading_models),    CASE(reading_samples), CASE(talking_to_children),
        CASE(opening_the_store), CASE(starting_jobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
