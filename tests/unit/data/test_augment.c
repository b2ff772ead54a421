/* Variants of an image: each is one of those that are meant, all of them come, and channels go together. */
#include <stdbool.h>

#include "server/data/augment.h"
#include "tests/support/cm.h"

static const struct augmentation both_kinds = {true, true};
enum { CHANNELS = 2, HEIGHT = 16, WIDTH = 9, PLANE = HEIGHT * WIDTH };

static int inside(int at, int size) {
    return at < 0 ? 0 : at >= size ? size - 1 : at;
}

static bool same(const float *a, const float *b, size_t count) {
    size_t i = 0;
    while (i < count && a[i] == b[i]) {
        i++;
    }
    return i == count;
}

/* The image by the definition: mirrored, then moved. */
static void reference(const float *image, int dy, int dx, bool mirrored, float *out) {
    for (int c = 0; c < CHANNELS; c++) {
        for (int y = 0; y < HEIGHT; y++) {
            for (int x = 0; x < WIDTH; x++) {
                const int from_x = inside(mirrored ? WIDTH - 1 - x + dx : x + dx, WIDTH);
                out[c * PLANE + y * WIDTH + x] = image[c * PLANE + inside(y + dy, HEIGHT) * WIDTH + from_x];
            }
        }
    }
}

static void test_every_variant(void **state) {
    (void)state;
    enum { DY = 2, DX = 1, VARIANTS = (2 * DY + 1) * (2 * DX + 1) * 2, DRAWS = 1000 };
    float image[CHANNELS * PLANE], variants[VARIANTS][CHANNELS * PLANE], out[CHANNELS * PLANE];
    size_t seen[VARIANTS] = {0};
    struct rng rng;
    rng_seed(&rng, 3);
    for (size_t i = 0; i < CHANNELS * PLANE; i++) {
        image[i] = (float)i;
    }
    for (int v = 0; v < VARIANTS; v++) {
        reference(image, v / 2 % (2 * DY + 1) - DY, v / 2 / (2 * DY + 1) - DX, v % 2 == 1, variants[v]);
    }
    for (size_t draw = 0; draw < DRAWS; draw++) {
        size_t v = 0;
        augment_image(both_kinds, CHANNELS, HEIGHT, WIDTH, &rng, image, out);
        while (v < VARIANTS && !same(out, variants[v], CHANNELS * PLANE)) {
            v++;
        }
        if (v == VARIANTS) {
            fail_msg("draw %zu is none of the variants", draw);
        }
        seen[v % VARIANTS]++;
    }
    for (size_t v = 0; v < VARIANTS; v++) {
        assert_in_range(seen[v], DRAWS / VARIANTS / 3, DRAWS / VARIANTS * 3);
    }
}

/* Sides below eight are not moved along; one pixel stays what it is. */
static void test_small(void **state) {
    (void)state;
    struct rng rng;
    const float image[3] = {1, 2, 3}, mirrored[3] = {3, 2, 1};
    bool both[2] = {false, false};
    rng_seed(&rng, 4);
    for (size_t draw = 0; draw < 50; draw++) {
        float out[3];
        augment_image(both_kinds, 1, 1, 3, &rng, image, out);
        const bool is_mirrored = same(out, mirrored, 3);
        assert_true(is_mirrored || same(out, image, 3));
        both[is_mirrored] = true;
        augment_image(both_kinds, 3, 1, 1, &rng, image, out);
        assert_true(same(out, image, 3));
    }
    assert_true(both[0] && both[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_variant),
        cmocka_unit_test(test_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
