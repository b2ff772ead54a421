/* The lines between parent and child: what is written is read back, and nothing else is accepted. The table of ends is here too. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/jobs/job_message.h"
#include "server/jobs/job_queue.h"
#include "tests/unit/jobs/fake_methods.h"

static void requests_are_read_back(void **state) {
    (void)state;
    struct error error = {0};
    struct job_request read;
    json_t *document = NULL;
    json_t *parameters = json_pack("{s:[i,i]}", "list", 1, 2);
    const struct job_request request = {
        .task = JOB_TASK_RUN,
        .limits =
            {.memory = 1 << 20, .file = 77, .cpu_s = 12, .sandbox = JOB_SANDBOX_REQUIRE, .uid = 65534, .jit = true},
        .run = {.model_path = "/m",
                .samples_path = "/s",
                .out_dir = "/o",
                .method = "onp",
                .parameters = parameters,
                .seed = UINT64_MAX,
                .threads = 2}};
    char *line = job_message_request(&request);
    assert_non_null(line);
    assert_int_equal(line[strlen(line) - 1], '\n');
    assert_ok(job_message_parse_request(line, strlen(line), &read, &document, &error), &error);
    assert_int_equal(read.task, JOB_TASK_RUN);
    assert_int_equal(read.limits.memory, 1 << 20);
    assert_int_equal(read.limits.file, 77);
    assert_int_equal(read.limits.cpu_s, 12);
    assert_int_equal(read.limits.sandbox, JOB_SANDBOX_REQUIRE);
    assert_int_equal(read.limits.uid, 65534);
    assert_true(read.limits.jit);
    assert_string_equal(read.run.model_path, "/m");
    assert_string_equal(read.run.samples_path, "/s");
    assert_null(read.run.probe_path);
    assert_string_equal(read.run.out_dir, "/o");
    assert_string_equal(read.run.method, "onp");
    assert_true(json_equal(read.run.parameters, parameters));
    assert_true(read.run.seed == UINT64_MAX);
    assert_int_equal(read.run.threads, 2);
    mem_free(line);
    json_decref(document);
    json_decref(parameters);
}

static void progress_is_read_back(void **state) {
    (void)state;
    struct error error = {0};
    struct job_message message;
    const struct mitigate_progress odd = {.stage = STAGE_REPAIR,
                                          .step = 4,
                                          .total = 9,
                                          .fraction = 0.5,
                                          .eta_s = -1,
                                          .best_reward = (double)NAN,
                                          .evaluations = 12,
                                          .mean_reward = -0.5,
                                          .greedy_reward = (double)INFINITY,
                                          .message = "odd \xff bytes"};
    struct store_progress progress;
    job_message_from_stages(&odd, &progress);
    char *line = job_message_progress(&progress);
    assert_non_null(line);
    assert_ok(job_message_parse(line, strlen(line), &message, &error), &error);
    assert_int_equal(message.kind, JOB_MESSAGE_PROGRESS);
    assert_int_equal(message.progress.stage, STAGE_REPAIR);
    assert_int_equal(message.progress.step, 4);
    assert_int_equal(message.progress.total, 9);
    assert_true(message.progress.fraction == 0.5);
    assert_true(message.progress.eta_s < 0);
    assert_true(isnan(message.progress.best_reward));
    assert_int_equal(message.progress.evaluations, 12);
    assert_true(message.progress.mean_reward == -0.5);
    assert_true(isnan(message.progress.greedy_reward));
    assert_string_equal(message.progress.message, "odd ? bytes");
    mem_free(line);
}

static void outcomes_are_read_back(void **state) {
    (void)state;
    struct error error = {0};
    struct job_message message;
    struct error problem = {0};
    json_t *info = json_pack("{s:i}", "units", 4);
    char *done = job_message_done(info);
    assert_ok(job_message_parse(done, strlen(done), &message, &error), &error);
    assert_int_equal(message.kind, JOB_MESSAGE_DONE);
    assert_true(json_equal(message.info, info));
    json_decref(message.info);
    (void)error_set(&problem, STATUS_UNSUPPORTED, "node 'x'", "got \"Foo\"");
    char *failed = job_message_error(&problem);
    assert_ok(job_message_parse(failed, strlen(failed), &message, &error), &error);
    assert_int_equal(message.kind, JOB_MESSAGE_ERROR);
    assert_int_equal(message.problem.status, STATUS_UNSUPPORTED);
    assert_string_equal(message.problem.where, problem.where);
    assert_string_equal(message.problem.message, problem.message);
    mem_free(done);
    mem_free(failed);
    json_decref(info);
}

/* A time left that is below zero. */
static const char PAST_ETA[] = "{\"type\":\"progress\",\"stage\":\"load\",\"step\":1,\"total\":1,\"fraction\":0,"
                               "\"eta_s\":-2,\"message\":\"\"}";

static void nothing_else_is_accepted(void **state) {
    (void)state;
    static const char *const BAD[] = {
        "",
        "null",
        "[]",
        "{}",
        "hello",
        "{\"type\":1}",
        "{\"type\":\"dance\"}",
        "{\"type\":\"done\",\"more\":1}",
        "{\"type\":\"done\",\"info\":[]}",
        "{\"type\":\"done\",\"type\":\"done\"}",
        "{\"type\":\"error\",\"status\":\"io\"}",
        "{\"type\":\"error\",\"status\":3,\"where\":\"\",\"message\":\"\"}",
        "{\"type\":\"progress\",\"stage\":\"lunch\",\"step\":1,\"total\":1,\"fraction\":0.5,\"message\":\"\"}",
        "{\"type\":\"progress\",\"stage\":\"load\",\"step\":-1,\"total\":1,\"fraction\":0.5,\"message\":\"\"}",
        "{\"type\":\"progress\",\"stage\":\"load\",\"step\":1,\"total\":1,\"fraction\":1.5,\"message\":\"\"}",
        "{\"type\":\"progress\",\"stage\":\"load\",\"step\":1,\"total\":1,\"fraction\":0.5,\"message\":7}",
        PAST_ETA,
    };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        struct error error = {0};
        struct job_message message;
        assert_int_not_equal(job_message_parse(BAD[i], strlen(BAD[i]), &message, &error), STATUS_OK);
        assert_true(error.message[0] != '\0');
    }
    /* A problem that says that all is well is our bug, not success. */
    static const char WELL[] = "{\"type\":\"error\",\"status\":\"ok\",\"where\":\"\",\"message\":\"m\"}";
    struct error error = {0};
    struct job_message message;
    assert_ok(job_message_parse(WELL, strlen(WELL), &message, &error), &error);
    assert_int_equal(message.problem.status, STATUS_INTERNAL);
}

static void requests_that_are_wrong_are_refused(void **state) {
    (void)state;
    static const char *const BAD[] = {
        "{}",
        "{\"task\":\"dig\",\"memory_limit\":0,\"file_limit\":0}",
        "{\"task\":\"check_model\",\"memory_limit\":0,\"file_limit\":0}",
        "{\"task\":\"run\",\"memory_limit\":0,\"file_limit\":0,\"model\":\"m\",\"seed\":\"1\"}",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        struct error error = {0};
        struct job_request request;
        json_t *document = NULL;
        assert_int_not_equal(job_message_parse_request(BAD[i], strlen(BAD[i]), &request, &document, &error), STATUS_OK);
        json_decref(document);
    }
}

/* What must hold of the table, whatever else is in it. */
static void the_table_of_ends_keeps_its_promises(void **state) {
    (void)state;
    for (int stop = JOB_STOP_NONE; stop < JOB_STOP_COUNT; stop++) {
        assert_int_equal(job_queue_action(JOB_END_DONE, (enum job_stop)stop), JOB_ACTION_SUCCEED);
        assert_int_equal(job_queue_action(JOB_END_BABBLE, (enum job_stop)stop), JOB_ACTION_FAIL);
    }
    for (int end = JOB_END_ERROR; end <= JOB_END_STOPPED; end++) {
        assert_int_equal(job_queue_action((enum job_end)end, JOB_STOP_CANCEL), JOB_ACTION_CANCELLED);
        assert_int_equal(job_queue_action((enum job_end)end, JOB_STOP_DEADLINE), JOB_ACTION_EXPIRE);
        assert_int_equal(job_queue_action((enum job_end)end, JOB_STOP_SHUTDOWN), JOB_ACTION_RELEASE);
    }
    assert_int_equal(job_queue_action(JOB_END_ERROR, JOB_STOP_NONE), JOB_ACTION_FAIL);
    assert_int_equal(job_queue_action(JOB_END_LOST, JOB_STOP_NONE), JOB_ACTION_LOSS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_read_back),
        cmocka_unit_test(progress_is_read_back),
        cmocka_unit_test(outcomes_are_read_back),
        cmocka_unit_test(nothing_else_is_accepted),
        cmocka_unit_test(requests_that_are_wrong_are_refused),
        cmocka_unit_test(the_table_of_ends_keeps_its_promises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
