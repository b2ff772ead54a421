#!/bin/sh
# Files that are embedded come out of the binary as they went in, in order, with their names.
set -u
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/in/sub"
printf 'SELECT 1;\n' >"$dir/in/a.sql"
: >"$dir/in/empty"
awk 'BEGIN { for (i = 0; i < 256; i++) printf "%c", i }' >"$dir/in/sub/bytes.bin"
cat >"$dir/main.c" <<'C'
#include <stdio.h>

#include "common/embedded.h"

int main(void) {
    for (const struct embedded_file *file = embedded_migrations; file->name != NULL; file++) {
        printf("%s %zu %d\n", file->name, file->size, file->data[file->size]);
        fwrite(file->data, 1, file->size, stdout);
    }
    return 0;
}
C
{
    printf 'a.sql %d 0\n' 10 && cat "$dir/in/a.sql"
    printf 'empty 0 0\n'
    printf 'sub/bytes.bin %d 0\n' "$(wc -c <"$dir/in/sub/bytes.bin")" && cat "$dir/in/sub/bytes.bin"
} >"$dir/expected"

if common/embed.sh embedded_migrations "$dir/in/" "$dir/in/a.sql" "$dir/in/empty" "$dir/in/sub/bytes.bin" \
    >"$dir/gen.c" && gcc -std=c11 -Wall -Werror -I. -o "$dir/main" "$dir/main.c" "$dir/gen.c" &&
    "$dir/main" >"$dir/got" && cmp "$dir/got" "$dir/expected"; then
    printf 'ok - embedded files are the files\n'
else
    printf 'not ok - embedded files are the files\n'
    exit 1
fi
if common/embed.sh embedded_migrations "$dir/in" >"$dir/gen.c" &&
    gcc -std=c11 -Wall -Werror -I. -o "$dir/main" "$dir/main.c" "$dir/gen.c" && [ -z "$("$dir/main")" ]; then
    printf 'ok - nothing to embed is an empty array\n'
else
    printf 'not ok - nothing to embed is an empty array\n'
    exit 1
fi
: >"$dir/in/od\"d"
if common/embed.sh embedded_migrations "$dir/in" "$dir/in/od\"d" >"$dir/gen.c" 2>/dev/null; then
    printf 'not ok - odd names are refused\n'
    exit 1
fi
printf 'ok - odd names are refused\n'
