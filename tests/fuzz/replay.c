/* Stands in for libFuzzer where there is none: runs each file that it is given through the target, once, and says how many. */
#include <stdio.h>

#include "common/file.h"
#include "common/mem.h"
#include "tests/fuzz/fuzz.h"

enum { INPUT_MAX = 64 << 20 };

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        struct error error = {0};
        char *bytes = NULL;
        size_t length = 0;
        if (file_read(argv[i], INPUT_MAX, &bytes, &length, &error) != STATUS_OK) {
            (void)fprintf(stderr, "%s\n", error.message);
            return 1;
        }
        /* An exact copy, so that a sanitizer sees a read behind the end. */
        uint8_t *exact = mem_dup(bytes, length);
        mem_free(bytes);
        if (exact == NULL) {
            return 1;
        }
        (void)LLVMFuzzerTestOneInput(exact, length);
        mem_free(exact);
    }
    (void)printf("%d inputs\n", argc - 1);
    return argc > 1 ? 0 : 1;
}
