/* Methods that behave as a test wishes: well, badly, or like a child that has been taken over. */
#include "tests/unit/jobs/fake_methods.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/mem.h"

enum { CHILD_SOCKET = 3 };

/* One line for each run, with its process, so that a test can count them. */
static void leave_a_line(const char *path) {
    char line[32];
    int length = snprintf(line, sizeof line, "%d\n", (int)getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0) {
        (void)!write(fd, line, (size_t)length);
        (void)close(fd);
    }
}

static const char *text_of(const json_t *parameters, const char *name) {
    const char *text = json_string_value(json_object_get(parameters, name));
    return text != NULL ? text : "";
}

static enum status write_results(const struct mitigate_request *request, json_t *report, struct error *error) {
    char path[STORE_PATH_SIZE];
    char *text = json_dumps(report, JSON_COMPACT);
    enum status status = file_join(path, sizeof path, request->out_dir, ARTIFACT_REPORT, error);
    if (status == STATUS_OK) {
        status = file_write_atomic(path, text, strlen(text), error);
    }
    if (status == STATUS_OK) {
        status = file_join(path, sizeof path, request->out_dir, ARTIFACT_MODEL, error);
    }
    if (status == STATUS_OK) {
        status = file_write_atomic(path, "repaired", 8, error);
    }
    free(text); /* of json_dumps() */
    return status;
}

static enum status succeed(const struct mitigate_request *request, const struct mitigate_hooks *hooks, json_t **report,
                           struct error *error) {
    char *model = NULL;
    size_t length = 0;
    enum status status = file_read(request->model_path, 1000, &model, &length, error);
    if (status != STATUS_OK) {
        return status;
    }
    for (unsigned i = 1; i <= 3; i++) {
        const struct mitigate_progress progress = {.stage = STAGE_SEARCH,
                                                   .step = i,
                                                   .total = 3,
                                                   .fraction = i / 3.0,
                                                   .eta_s = 3.0 - i,
                                                   .best_reward = i == 1 ? (double)__builtin_nan("") : 0.5,
                                                   .message = "searching"};
        hooks->progress(hooks->user, &progress);
    }
    struct rlimit core;
    (void)getrlimit(RLIMIT_CORE, &core);
    json_t *made =
        json_pack("{s:s, s:I, s:s, s:b, s:s, s:i, s:b, s:i}", "model", model, "seed",
                  (json_int_t)(request->seed & 0xffff), "method", request->method, "probe", request->probe_path != NULL,
                  "openblas", getenv("OPENBLAS_NUM_THREADS") != NULL ? getenv("OPENBLAS_NUM_THREADS") : "", "threads",
                  (int)request->threads, "secret", getenv("ONP_TOKEN") != NULL, "core", (int)core.rlim_cur);
    mem_free(model);
    status = write_results(request, made, error);
    *report = made;
    return status;
}

static enum status hang(const struct mitigate_hooks *hooks, bool deaf, struct error *error) {
    const struct mitigate_progress progress = {
        .stage = STAGE_EXPOSE, .fraction = 0.1, .eta_s = -1, .best_reward = 0, .message = "hanging"};
    hooks->progress(hooks->user, &progress);
    while (deaf || !atomic_load(hooks->cancel)) {
        (void)usleep(5000);
    }
    return error_set(error, STATUS_CANCELLED, "", "failed to run the job: it was cancelled");
}

/* Speaks over the child's socket as no child should. */
static void say(const char *text, size_t times) {
    for (size_t i = 0; i < times; i++) {
        (void)!write(CHILD_SOCKET, text, strlen(text));
    }
}

/* Takes more than a child may. */
static enum status take_too_much(const struct mitigate_request *request, const char *act, struct error *error) {
    enum { BLOCK = 1 << 20, BLOCKS = 512 };
    char path[STORE_PATH_SIZE];
    char *block = mem_calloc(BLOCK, strcmp(act, "hungry") == 0 ? BLOCKS : 1);
    if (block == NULL) {
        return error_no_memory(error, "a feast");
    }
    enum status status = file_join(path, sizeof path, request->out_dir, ARTIFACT_MODEL, error);
    if (status == STATUS_OK) {
        status = file_write_atomic(path, block, BLOCK, error);
    }
    mem_free(block);
    return status;
}

static enum status misbehave(const struct mitigate_request *request, const char *act, struct error *error) {
    char path[STORE_PATH_SIZE];
    if (strcmp(act, "crash") == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)kill(getpid(), SIGABRT);
        (void)pause();
    } else if (strcmp(act, "exit") == 0) {
        _exit(5);
    } else if (strcmp(act, "babble") == 0) {
        say("hello, I am your child\n", 1);
        (void)pause();
    } else if (strcmp(act, "flood") == 0) {
        say("0123456789012345678901234567890123456789", 100000);
        (void)pause();
    } else if (strcmp(act, "lie") == 0) {
        say("{\"type\":\"progress\",\"stage\":\"search\",\"step\":1,\"total\":1,\"fraction\":7,\"message\":\"\"}\n", 1);
        (void)pause();
    } else if (strcmp(act, "breach") == 0) {
        (void)socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    } else if (strcmp(act, "symlink") == 0) {
        (void)file_join(path, sizeof path, request->out_dir, ARTIFACT_REPORT, error);
        (void)!symlink("/etc/passwd", path);
        return STATUS_OK;
    }
    /* "nothing": says that it is done and leaves no file. */
    return STATUS_OK;
}

static enum status fake_run(const struct mitigate_request *request, const struct mitigate_hooks *hooks, json_t **report,
                            struct error *error) {
    const char *act = text_of(request->parameters, "act");
    const char *path = text_of(request->parameters, "path");
    bool first = path[0] == '\0' || access(path, F_OK) != 0;
    if (path[0] != '\0') {
        leave_a_line(path);
    }
    if (strcmp(act, "crash_once") == 0) {
        act = first ? "crash" : "succeed";
    }
    if (strcmp(act, "hang_once") == 0) {
        act = first ? "hang" : "succeed";
    }
    if (strcmp(act, "succeed") == 0) {
        return succeed(request, hooks, report, error);
    }
    if (strcmp(act, "hungry") == 0 || strcmp(act, "big_file") == 0) {
        return take_too_much(request, act, error);
    }
    if (strcmp(act, "fail") == 0) {
        return error_set(error, STATUS_NUMERIC, "node 'conv1'", "failed to compute node conv1: got NaN");
    }
    if (strcmp(act, "hang") == 0 || strcmp(act, "deaf") == 0) {
        return hang(hooks, strcmp(act, "deaf") == 0, error);
    }
    return misbehave(request, act, error);
}

static enum status fake_check_parameters(const char *method, const json_t *parameters, struct error *error) {
    if (strcmp(method, "onp") != 0) {
        return error_set(error, STATUS_INVALID, "/method", "failed to find method %.32s", method);
    }
    if (!json_is_string(json_object_get(parameters, "act"))) {
        return error_set(error, STATUS_INVALID, "/parameters/act", "failed to read act");
    }
    return STATUS_OK;
}

static enum status fake_check_file(const char *path, json_t **info, struct error *error) {
    char *text = NULL;
    size_t length = 0;
    enum status status = file_read(path, 1000, &text, &length, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (strcmp(text, "crash") == 0) {
        (void)kill(getpid(), SIGSEGV);
    } else if (strcmp(text, "breach") == 0) {
        (void)socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    } else if (strcmp(text, "hang") == 0) {
        (void)sleep(HANG_S);
    } else if (strcmp(text, "bad") == 0) {
        status = error_set(error, STATUS_UNSUPPORTED, "node 'x'", "failed to load node x: got operator Foo");
    }
    if (status == STATUS_OK) {
        *info = json_pack("{s:s, s:i}", "text", text, "pid", (int)getpid());
    }
    mem_free(text);
    return status;
}

static enum status fake_check_fit(const json_t *model, const json_t *samples, const json_t *probe,
                                  struct error *error) {
    (void)probe;
    if (json_equal(model, samples)) {
        return error_set(error, STATUS_INVALID, "/samples_id", "failed to fit the samples to the model");
    }
    return STATUS_OK;
}

static enum status fake_describe_graph(const char *path, long layer, json_t **graph, struct error *error) {
    (void)path;
    if (layer > 100) {
        return error_set(error, STATUS_NOT_FOUND, "layer", "failed to find layer %ld", layer);
    }
    *graph = json_pack("{s:I}", "layer", (json_int_t)layer);
    return STATUS_OK;
}

const struct job_methods fake_methods = {.run = fake_run,
                                         .check_parameters = fake_check_parameters,
                                         .check_model = fake_check_file,
                                         .check_samples = fake_check_file,
                                         .describe_graph = fake_describe_graph,
                                         .check_fit = fake_check_fit};

/* --- the fixture --- */

void assert_ok(enum status status, const struct error *error) {
    if (status != STATUS_OK) {
        print_error("%s: %s: %s\n", status_name(status), error->where, error->message);
    }
    assert_int_equal(status, STATUS_OK);
}

static void upload(struct store *store, enum store_kind kind, const char *text, char id[ID_SIZE]) {
    struct error error = {0};
    struct store_upload *upload = NULL;
    struct store_object object;
    bool existed = false;
    json_t *info = json_pack("{s:s}", "text", text);
    assert_ok(store_upload_begin(store, 1024, &upload, &error), &error);
    assert_ok(store_upload_write(upload, text, strlen(text), &error), &error);
    assert_ok(store_object_insert(store, kind, upload, "", info, &object, &existed, &error), &error);
    store_upload_abort(upload);
    memcpy(id, object.id, ID_SIZE);
    store_object_deinit(&object);
    json_decref(info);
}

int fixture_setup(void **state) {
    struct error error = {0};
    struct fixture *fixture = mem_calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    log_set_level(LOG_ERROR);
    scratch_make(&fixture->scratch);
    assert_ok(store_open(scratch_path(&fixture->scratch, "data"), NULL, &fixture->store, &error), &error);
    upload(fixture->store, STORE_MODEL, "model bytes", fixture->model_id);
    upload(fixture->store, STORE_SAMPLES, "samples bytes", fixture->samples_id);
    jobs_options_init(&fixture->options);
    fixture->options.cancel_grace_s = 0.3;
    fixture->options.sandbox = JOB_SANDBOX_OFF; /* these methods signal, link and write elsewhere */
    *state = fixture;
    return 0;
}

int fixture_teardown(void **state) {
    struct fixture *fixture = *state;
    jobs_stop(fixture->jobs, 0);
    store_close(fixture->store);
    scratch_remove(&fixture->scratch);
    mem_free(fixture);
    return 0;
}

void fixture_start(struct fixture *fixture) {
    struct error error = {0};
    assert_ok(jobs_start(fixture->store, &fake_methods, &fixture->options, &fixture->jobs, &error), &error);
}

void fixture_restart(struct fixture *fixture, double grace_s) {
    struct error error = {0};
    jobs_stop(fixture->jobs, grace_s);
    fixture->jobs = NULL;
    store_close(fixture->store);
    fixture->store = NULL;
    assert_ok(store_open(scratch_path(&fixture->scratch, "data"), NULL, &fixture->store, &error), &error);
    fixture_start(fixture);
}

void fixture_submit(struct fixture *fixture, const char *act, const char *path, char id[ID_SIZE]) {
    struct error error = {0};
    struct store_job job;
    json_t *parameters = json_pack("{s:s, s:s*}", "act", act, "path", path);
    const struct store_job_request request = {.model_id = fixture->model_id,
                                              .samples_id = fixture->samples_id,
                                              .method = "onp",
                                              .parameters = parameters,
                                              .seed = 0xffffffffffff0007U};
    assert_ok(jobs_submit(fixture->jobs, &request, &job, &error), &error);
    memcpy(id, job.id, ID_SIZE);
    store_job_deinit(&job);
    json_decref(parameters);
}

void fixture_submit_hanging(struct fixture *fixture, double deadline_s, char id[ID_SIZE]) {
    struct error error = {0};
    struct store_job job;
    json_t *parameters = json_pack("{s:s}", "act", "hang");
    const struct store_job_request request = {.model_id = fixture->model_id,
                                              .samples_id = fixture->samples_id,
                                              .method = "onp",
                                              .parameters = parameters,
                                              .deadline_s = deadline_s};
    assert_ok(jobs_submit(fixture->jobs, &request, &job, &error), &error);
    memcpy(id, job.id, ID_SIZE);
    store_job_deinit(&job);
    json_decref(parameters);
}

void fixture_await(struct fixture *fixture, const char *id, enum job_state state, struct store_job *job) {
    struct error error = {0};
    struct patience patience = {0};
    while (true) {
        assert_ok(store_job_find(fixture->store, id, job, &error), &error);
        if (job->state == state) {
            return;
        }
        bool over = job_state_is_terminal(job->state) || !patience_nap(&patience);
        if (over) {
            print_error("job is %s: %s\n", job_state_name(job->state), job->problem.message);
        }
        store_job_deinit(job);
        assert_false(over);
    }
}

size_t fixture_lines(const struct fixture *fixture, const char *name) {
    char *text = NULL;
    size_t length = 0;
    size_t count = 0;
    struct error error = {0};
    if (file_read(scratch_path(&fixture->scratch, name), 1 << 20, &text, &length, &error) != STATUS_OK) {
        return 0;
    }
    for (size_t i = 0; i < length; i++) {
        count += text[i] == '\n' ? 1 : 0;
    }
    mem_free(text);
    return count;
}
