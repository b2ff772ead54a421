/* Whole requests of every kind while memory runs out, at each allocation in turn, in the loop, the helpers, the store and the workers: each is
 * answered as it should be, answered that the server cannot now, or not at all; and when memory is back all works. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/mem.h"
#include "tests/support/cm.h"
#include "tests/unit/api/world.h"

enum { ALLOCATIONS_MAX = 600, STRIDE = 1, BODY_SIZE = 256 };

struct kind {
    const char *method, *path, *fields,
        *body; /* %1 model, %2 samples, %3 job, %4 upload, # a number that never comes again */
};

#define TUS "Tus-Resumable: 1.0.0\r\n"
#define KEY "Idempotency-Key: key-#\r\n"

static const struct kind kinds[] = {
    {"GET", "/healthz", "", NULL},
    {"GET", "/", "", NULL},
    {"GET", "/openapi.json", "", NULL},
    {"GET", "/metrics", "", NULL},
    {"GET", "/v1/capabilities", "", NULL},
    {"GET", "/v1/tokens", "", NULL},
    {"GET", "/v1/models?limit=5", "", NULL},
    {"GET", "/v1/models/%1", "If-None-Match: \"x\"\r\n", NULL},
    {"GET", "/v1/models/%1/content", "Range: bytes=1-2\r\n", NULL},
    {"GET", "/v1/models/%1/graph?layer=1", "", NULL},
    {"GET", "/v1/jobs?state=succeeded&label=a:b", "", NULL},
    {"GET", "/v1/jobs/%3", "", NULL},
    {"GET", "/v1/jobs/%3/events", "", NULL},
    {"GET", "/v1/jobs/%3/events", "Accept: text/event-stream\r\n", NULL},
    {"GET", "/v1/jobs/%3/result", "", NULL},
    {"GET", "/v1/jobs/%3/artifacts", "", NULL},
    {"GET", "/v1/jobs/%3/artifacts/model.onnx", "", NULL},
    {"GET", "/v1/nothing", "", NULL},
    {"POST", "/v1/samples?name=s", KEY, "good samples #"},
    {"POST", "/v1/models?name=m", "", "bad model #"},
    {"POST", "/v1/jobs", KEY,
     "{\"model_id\":\"%1\",\"samples_id\":\"%2\",\"seed\":#,\"parameters\":{},\"labels\":{\"a\":\"b\"}}"},
    {"POST", "/v1/jobs", "", "{\"model_id\":\"%1\",\"samples_id\":\"%2\",\"parameters\":{\"wrong\":#}}"},
    {"POST", "/v1/jobs/%3/cancel", "", NULL},
    {"POST", "/v1/uploads", TUS "Upload-Length: 10\r\nUpload-Metadata: kind bW9kZWw=\r\n" KEY, NULL},
    {"HEAD", "/v1/uploads/%4", TUS, NULL},
    {"PATCH", "/v1/uploads/%4",
     TUS "Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\nUpload-Checksum: sha256 "
         "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n",
     "0123456789"},
    {"POST", "/v1/uploads/%4/complete", "", NULL},
    {"DELETE", "/v1/uploads/upl_00000000000000000000000000", TUS, NULL},
};

struct things {
    struct ids ids;
    char upload[ID_SIZE];
};

/* Puts ids and the number into a text. */
static const char *fill_in(char out[BODY_SIZE], const char *text, const struct things *things, unsigned number) {
    const char *const ids[] = {things->ids.model, things->ids.samples, things->ids.job, things->upload};
    size_t used = 0;

    for (const char *at = text; *at != '\0'; at++) {
        int length;
        if (at[0] == '%' && at[1] >= '1' && at[1] <= '4') {
            length = snprintf(out + used, BODY_SIZE - used, "%s", ids[at[1] - '1']);
            at++;
        } else if (at[0] == '#') {
            length = snprintf(out + used, BODY_SIZE - used, "%u", number);
        } else {
            length = snprintf(out + used, BODY_SIZE - used, "%c", *at);
        }
        used += (size_t)length;
        assert_true(used < BODY_SIZE);
    }
    out[used] = '\0';
    return out;
}

static int send_kind(struct world *world, const struct kind *kind, const struct things *things, unsigned number) {
    char path[BODY_SIZE], fields[BODY_SIZE], body[BODY_SIZE];
    int code = 0;

    json_decref(ask_with(world, kind->method, fill_in(path, kind->path, things, number),
                         fill_in(fields, kind->fields, things, number),
                         kind->body != NULL ? fill_in(body, kind->body, things, number) : NULL, &code, NULL));
    return code;
}

static void prepare(struct world *world, struct things *things) {
    const char *answer;
    int code = 0;

    memset(things, 0, sizeof(*things));
    assert_int_equal(submit(world, &things->ids, "{}"), 202);
    json_decref(wait_for(world, &things->ids, "succeeded"));
    json_decref(ask_with(world, "POST", "/v1/uploads", TUS "Upload-Length: 10\r\nUpload-Metadata: kind bW9kZWw=\r\n",
                         NULL, &code, &answer));
    assert_int_equal(code, 201);
    (void)snprintf(things->upload, ID_SIZE, "%s", strrchr(field_of(answer, "Location"), '/') + 1);
}

static void every_request_survives(void **state) {
    struct world *world = *state;
    struct things things;
    unsigned number = 0;
    size_t struck = 0;

    prepare(world, &things);
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        const struct kind *kind = &kinds[k];
        int well = send_kind(world, kind, &things, number++);
        bool reached = true;

        assert_int_not_equal(well, 0);
        assert_true(well < 500);
        for (uint64_t n = 1; reached && n < ALLOCATIONS_MAX; n += STRIDE) {
            uint64_t before = mem_allocation_count();
            int code;

            mem_fail_after(n);
            code = send_kind(world, kind, &things, number++);
            mem_fail_after(0);
            if (code == 429 && well == 202) { /* the worker is behind: the same again */
                (void)usleep(5000);
                n -= STRIDE;
                continue;
            }
            reached = mem_allocation_count() - before >= n;
            struck += reached;
            if (code != 0 && code != well && code != 500 && code != 503 && (well >= 300 || code / 100 != 2)) {
                fail_msg("%s %s: got %d at allocation %llu, expected %d, 500 or 503", kind->method, kind->path, code,
                         (unsigned long long)n, well);
            }
        }
        assert_false(reached);
    }
    assert_true(struck > 4 * sizeof(kinds) / sizeof(kinds[0]));
    assert_int_equal(submit(world, &things.ids, "{}"), 202);
    json_decref(wait_for(world, &things.ids, "succeeded"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_request_survives, world_setup, world_teardown),
    };
    return cmocka_run_group_tests_name("api: no memory", tests, NULL, NULL);
}
