/* ONNX files: wire scan, parser, validation and lowering, and writing what was accepted. */
#include "common/mem.h"
#include "server/onnx/onnx_model.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct onnx_limits limits = onnx_default_limits;
    struct onnx_model *model = NULL;
    struct error error = {0};
    uint8_t *written = NULL;
    size_t written_length = 0;
    /* Small enough for many runs a second. */
    limits.max_parameters = 1 << 20;
    limits.max_activation = 1 << 22;
    if (onnx_model_load(bytes, length, &limits, &model, &error) != STATUS_OK) {
        return 0;
    }
    if (onnx_model_write(model, NULL, 0, NULL, 0, &written, &written_length, &error) == STATUS_OK) {
        mem_free(written);
    }
    onnx_model_free(model);
    return 0;
}
