/* Bodies of POST /v1/jobs: JSON, then its members. */
#include "common/json_read.h"
#include "server/api/api_internal.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct store_job_request request;
    struct error error = {0};
    json_t *body = NULL;
    if (json_read_text((const char *)bytes, length, &body, &error) == STATUS_OK) {
        (void)api_job_request_read(body, &request, &error);
    }
    json_decref(body);
    return 0;
}
