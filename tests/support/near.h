/* Comparison of doubles, which cmocka 1.1.5 has for floats only. */
#ifndef ONP_TESTS_SUPPORT_NEAR_H
#define ONP_TESTS_SUPPORT_NEAR_H

#include <math.h>

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (double)(tolerance))

#endif
