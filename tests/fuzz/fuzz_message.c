/* What the child of a job says to its parent, and the request the other way. */
#include <string.h>

#include "server/jobs/job_message.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct job_message message;
    struct job_request request;
    struct error error = {0};
    json_t *document = NULL;
    if (job_message_parse((const char *)bytes, length, &message, &error) == STATUS_OK) {
        /* What is accepted is what a parent may rely on. */
        if (message.kind == JOB_MESSAGE_PROGRESS &&
            !(message.progress.fraction >= 0 && message.progress.fraction <= 1)) {
            __builtin_trap();
        }
        if (message.kind == JOB_MESSAGE_ERROR && message.problem.status == STATUS_OK) {
            __builtin_trap();
        }
        json_decref(message.info);
    }
    error_clear(&error);
    (void)job_message_parse_request((const char *)bytes, length, &request, &document, &error);
    json_decref(document);
    return 0;
}
