/* Where the onpd binary is. */
#ifndef ONP_CLIENT_ONPD_PATH_H
#define ONP_CLIENT_ONPD_PATH_H

#include <stddef.h>

#include "common/error.h"

/* $ONPD if set, else "onpd" beside this program, else "onpd" (to be searched in PATH by execvp()). */
enum status onpd_path_find(char *out, size_t size, struct error *error);

#endif
