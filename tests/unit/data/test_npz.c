/* Arrays of every type through a file, and NumPy's own files. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/file.h"
#include "common/mem.h"
#include "server/data/npy.h"
#include "tests/support/cm.h"
#include "tests/support/scratch.h"

enum { BYTES_MAX = 1 << 20 };

static void test_types(void **state) {
    (void)state;
    struct scratch scratch;
    struct npz *npz = NULL;
    struct error error = {0};
    uint8_t u1[3] = {0, 7, 255};
    int32_t i4[3] = {-5, 0, INT32_MAX};
    int64_t i8[3] = {INT64_MIN, 3, INT64_MAX};
    float f4[3] = {-1.5F, 0, 3e38F};
    double f8[3] = {-0.1, 1e300, 2};
    /* 1, -2, the largest half, the smallest normal, the smallest subnormal, infinity, NaN. */
    uint16_t f2[7] = {0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x7c00, 0x7e00};
    const struct npy arrays[] = {
        {"u1", NPY_U1, {1, {3}}, u1},      {"i4", NPY_I4, {2, {1, 3}}, i4},    {"i8", NPY_I8, {2, {3, 1}}, i8},
        {"f4", NPY_F4, {1, {3}}, f4},      {"f8", NPY_F8, {3, {1, 1, 3}}, f8}, {"f2", NPY_F2, {1, {7}}, f2},
        {"none", NPY_F4, {2, {0, 3}}, f4}, {"scalar", NPY_I4, {0}, &i4[2]},
    };
    enum { ARRAYS = sizeof arrays / sizeof *arrays };
    scratch_make(&scratch);
    const char *path = scratch_path(&scratch, "types.npz");
    assert_int_equal(npz_save(path, arrays, ARRAYS, &error), STATUS_OK);
    assert_int_equal(npz_load(path, BYTES_MAX, BYTES_MAX, &npz, &error), STATUS_OK);
    assert_int_equal(npz->count, ARRAYS);
    for (size_t i = 0; i < ARRAYS; i++) {
        const struct npy *found = npz_find(npz, arrays[i].name);
        assert_non_null(found);
        assert_int_equal(found->type, arrays[i].type);
        assert_true(shape_equal(&found->shape, &arrays[i].shape));
        assert_memory_equal(found->data, arrays[i].data, shape_count(&found->shape) * npy_width(found->type));
    }
    assert_null(npz_find(npz, "u"));
    assert_int_equal(npy_integer(npz_find(npz, "u1"), 2), 255);
    assert_int_equal(npy_integer(npz_find(npz, "i4"), 0), -5);
    assert_true(npy_integer(npz_find(npz, "i8"), 0) == INT64_MIN);
    assert_true(npy_double(npz_find(npz, "i4"), 2) == INT32_MAX);
    assert_true(npy_double(npz_find(npz, "f4"), 2) == (double)3e38F);
    assert_true(npy_double(npz_find(npz, "f8"), 1) == 1e300);
    const double halves[6] = {1, -2, 65504, 0x1p-14, 0x1p-24, INFINITY};
    for (size_t i = 0; i < 6; i++) {
        assert_true(npy_double(npz_find(npz, "f2"), i) == halves[i]);
    }
    assert_true(isnan(npy_double(npz_find(npz, "f2"), 6)));
    npz_free(npz);
    scratch_remove(&scratch);
}

/* np.savez() stores without compression; golden.npz of the ONNX cases is such a file. */
static void test_stored_by_numpy(void **state) {
    (void)state;
    struct npz *npz = NULL;
    struct error error = {0};
    assert_int_equal(npz_load("tests/data/onnx_good/small_cnn/golden.npz", BYTES_MAX, BYTES_MAX, &npz, &error),
                     STATUS_OK);
    const struct npy *x = npz_find(npz, "x"), *logits = npz_find(npz, "logits");
    assert_non_null(x);
    assert_non_null(logits);
    assert_int_equal(x->type, NPY_F4);
    assert_true(shape_equal(&x->shape, &(struct shape){4, {3, 3, 8, 8}}));
    assert_true(shape_equal(&logits->shape, &(struct shape){2, {3, 4}}));
    npz_free(npz);
}

/* The same arrays make the same bytes: no clock in the file. */
static void test_saving_is_deterministic(void **state) {
    (void)state;
    struct scratch scratch;
    struct error error = {0};
    char *files[2] = {NULL, NULL};
    size_t lengths[2] = {0, 0};
    float data[64] = {1, 2, 3};
    const struct npy one = {"data", NPY_F4, {1, {64}}, data};
    scratch_make(&scratch);
    for (size_t i = 0; i < 2; i++) {
        const char *path = scratch_path(&scratch, "a.npz");
        assert_int_equal(npz_save(path, &one, 1, &error), STATUS_OK);
        assert_int_equal(file_read(path, BYTES_MAX, &files[i], &lengths[i], &error), STATUS_OK);
    }
    assert_int_equal(lengths[0], lengths[1]);
    assert_memory_equal(files[0], files[1], lengths[0]);
    mem_free(files[0]);
    mem_free(files[1]);
    scratch_remove(&scratch);
}

/* Headers as NumPy and others write them. */
static void test_headers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        enum npy_type type;
        struct shape shape;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }          \n", NPY_F4, {2, {3, 4}}},
        {"{'shape': (), 'fortran_order': False, 'descr': '<i8'}\n", NPY_I8, {0}},
        {"{\"descr\":\"|u1\",\"fortran_order\":False,\"shape\":(5,)}", NPY_U1, {1, {5}}},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': ( 2 , 3 , )}", NPY_F8, {2, {2, 3}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct npy array = {.data = NULL};
        struct error error = {0};
        assert_int_equal(npy_header(cases[i].text, strlen(cases[i].text), "h", &array, &error), STATUS_OK);
        assert_int_equal(array.type, cases[i].type);
        assert_true(shape_equal(&array.shape, &cases[i].shape));
    }
    /* Every prefix of a header is refused, and reads nothing past its end. */
    for (size_t length = 0; length + 12 < strlen(cases[0].text); length++) {
        struct npy array = {.data = NULL};
        struct error error = {0};
        char *part = mem_dup(cases[0].text, length);
        enum status status = npy_header(part, length, "h", &array, &error);
        assert_true(status == STATUS_OK ? length >= strcspn(cases[0].text, "}") + 1 : error.message[0] != '\0');
        mem_free(part);
    }
    const unsigned char version_2[NPY_PREFIX_V2] = {0x93, 'N', 'U', 'M', 'P', 'Y', 2, 0, 0x10, 0x01, 0, 0};
    size_t before = 0, length = 0;
    struct error error = {0};
    assert_int_equal(npy_prefix(version_2, "h", &before, &length, &error), STATUS_OK);
    assert_int_equal(before, 12);
    assert_int_equal(length, 0x110);
}

static void test_saving_without_memory(void **state) {
    (void)state;
    struct scratch scratch;
    float data[4] = {0};
    const struct npy one = {"data", NPY_F4, {1, {4}}, data};
    enum status status = STATUS_NO_MEMORY;
    scratch_make(&scratch);
    for (uint64_t n = 1; status != STATUS_OK; n++) {
        const char *path = scratch_path(&scratch, "a.npz");
        struct error error = {0};
        mem_fail_after(n);
        status = npz_save(path, &one, 1, &error);
        mem_fail_after(0);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
    }
    scratch_remove(&scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_stored_by_numpy),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_saving_is_deterministic),
        cmocka_unit_test(test_saving_without_memory),
    };
    return cmocka_run_group_tests_name("data: npz", tests, NULL, NULL);
}
