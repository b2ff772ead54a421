/* Comparison of doubles, which cmocka 1.1.5 has for floats only, and of whole tensors. */
#ifndef ONP_TESTS_SUPPORT_NEAR_H
#define ONP_TESTS_SUPPORT_NEAR_H

#include <math.h>
#include <stddef.h>

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (double)(tolerance))

/* The largest difference of two tensors (count) as a share of the largest expected value; NaN if there is one. */
static inline double near_apart(const float *got, const float *expected, size_t count) {
    double scale = 1e-6, worst = 0;
    for (size_t i = 0; i < count; i++) {
        scale = fmax(scale, fabs((double)expected[i]));
    }
    for (size_t i = 0; i < count; i++) {
        double error = fabs((double)got[i] - (double)expected[i]) / scale;
        worst = error <= worst ? worst : error; /* a NaN becomes the worst */
    }
    return worst;
}

#endif
