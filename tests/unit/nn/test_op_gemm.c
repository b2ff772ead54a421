/* Gemm against three loops. */
#include "tests/support/cm.h"
#include "tests/unit/nn/op_rig.h"

static void reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    const struct op_attr *attr = &rig->node.attr;
    const struct shape *weight = rig_shape(rig, 1);
    const size_t k = weight->dim[attr->trans_b ? 1 : 0], m = weight->dim[attr->trans_b ? 0 : 1];
    const bool has_bias = rig->node.input_count > 2 && rig->node.inputs[2] != NETWORK_NONE;

    for (size_t r = 0; r < rig_count(rig, 0, n) / k; r++) {
        for (size_t j = 0; j < m; j++) {
            double sum = 0.0;
            for (size_t i = 0; i < k; i++) {
                sum += in[0][r * k + i] * in[1][attr->trans_b ? j * k + i : i * m + j];
            }
            double bias = has_bias ? in[2][rig_count(rig, 2, 1) == 1 ? 0 : j] : 0.0;
            out[r * m + j] = (double)attr->alpha * sum + (double)attr->beta * bias;
        }
    }
}

enum bias { BIAS_ABSENT, BIAS_OMITTED, BIAS_VECTOR, BIAS_ROW, BIAS_ONE, BIAS_SCALAR, BIAS_COUNT };

static void shapes(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 36; seed++) {
        struct rig rig;
        rig_init(&rig, OP_GEMM, seed + 1);
        const size_t k = 1 + (size_t)rng_below(&rig.rng, 70), m = 1 + (size_t)rng_below(&rig.rng, 40);
        rig.reference = reference;
        rig.loose_samples = true;
        rig.node.attr = (struct op_attr){
            .alpha = seed % 3 == 0 ? 1.0f : 0.7f, .beta = seed % 4 == 0 ? 1.0f : -0.5f, .trans_b = seed % 2 == 0};
        if (seed % 5 == 4) {
            RIG_DATA(&rig, 1, 3, k);
        } else {
            RIG_DATA(&rig, 1, k);
        }
        if (rig.node.attr.trans_b) {
            RIG_CONSTANT(&rig, -1.0f, 1.0f, m, k);
        } else {
            RIG_CONSTANT(&rig, -1.0f, 1.0f, k, m);
        }
        switch ((enum bias)(seed % BIAS_COUNT)) {
        case BIAS_OMITTED:
            rig_omit(&rig);
            break;
        case BIAS_VECTOR:
            RIG_CONSTANT(&rig, -1.0f, 1.0f, m);
            break;
        case BIAS_ROW:
            RIG_CONSTANT(&rig, -1.0f, 1.0f, 1, m);
            break;
        case BIAS_ONE:
            RIG_CONSTANT(&rig, -1.0f, 1.0f, 1);
            break;
        case BIAS_SCALAR:
            rig_constant(&rig, 0, NULL, -1.0f, 1.0f);
            break;
        default:
            break;
        }
        rig_check(&rig, seed % 7 + 1);
        rig_deinit(&rig);
    }
}

static void begin(struct rig *rig) {
    rig_init(rig, OP_GEMM, 1);
    rig->node.attr.alpha = 1.0f;
    RIG_DATA(rig, 1, 6);
}

static void refusals(void **state) {
    (void)state;
    struct rig rig;

    begin(&rig);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 5, 4);
    rig_refuses(&rig, STATUS_INVALID, "[1, 6] and [5, 4]");
    begin(&rig);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 6);
    rig_refuses(&rig, STATUS_INVALID, "[1, 6] and [6]");
    begin(&rig);
    RIG_DATA(&rig, 6, 4);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "computed weight");
    begin(&rig);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 6, 4);
    rig.node.attr.trans_a = true;
    rig_refuses(&rig, STATUS_UNSUPPORTED, "transA");
    begin(&rig);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 6, 4);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 5);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "bias of shape [5]");
    begin(&rig);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 6, 4);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 2, 4);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "bias of shape [2, 4]");
    begin(&rig);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 6, 4);
    RIG_DATA(&rig, 1, 4);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "computed bias");
    rig_init(&rig, OP_GEMM, 1);
    RIG_DATA(&rig, 6);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 6, 4);
    rig_refuses(&rig, STATUS_INVALID, "rank 2 or more");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes), cmocka_unit_test(refusals)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
