/* cmocka, with the headers that it wants before it. */
#ifndef ONP_TESTS_SUPPORT_CM_H
#define ONP_TESTS_SUPPORT_CM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
