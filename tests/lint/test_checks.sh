#!/bin/sh
# The checks of `make lint` on small sources that break one rule each, and on one that breaks none.
set -u
root=$(pwd)
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
status=0

# expect NAME PROGRAM FILE PATTERN: the check must print a line that fits, or nothing for an empty pattern
expect() {
    mkdir -p "$dir/$(dirname "$3")"
    cat >"$dir/$3"
    got=$(cd "$dir" && awk -f "$root/tests/lint/$2" "$3" 2>&1)
    code=$?
    if { [ -z "$4" ] && [ -z "$got" ] && [ "$code" -eq 0 ]; } ||
        { [ -n "$4" ] && [ "$code" -ne 0 ] && printf '%s\n' "$got" | grep -qE "^$3:$4"; }; then
        printf 'ok - %s\n' "$1"
    else
        printf 'not ok - %s: got "%s" and status %d, expected "%s"\n' "$1" "$got" "$code" "$4"
        status=1
    fi
}

expect 'lower levels may be included' includes.awk server/onnx/a.c '' <<'S'
#include <jansson.h>
#include "common/mem.h"
#include "server/nn/tensor.h"
#include "server/onnx/b.h"
S
expect 'higher levels may not' includes.awk server/nn/a.c '1: server/nn may not include server/onnx' <<'S'
#include "server/onnx/onnx_model.h"
S
expect 'the client knows only common' includes.awk client/a.c '2: client may not include server/nn' <<'S'
#include "common/mem.h"
#include "server/nn/tensor.h"
S
expect 'the method knows no SQL' includes.awk server/mitigate/a.c '1: sqlite3.h may be included only in server/store' <<'S'
#include <sqlite3.h>
S
expect 'includes start at the root' includes.awk common/a.c '1: "mem.h": includes with quotes start at the root' <<'S'
#include "mem.h"
S
expect 'a new folder must be in the table' includes.awk server/other/a.c '1: folder server/other is not in the table' <<'S'
#include <stdio.h>
S
expect 'the app may include everything' includes.awk server/app.c '' <<'S'
#include "server/store/store.h"
#include "server/api/api.h"
S

expect 'string functions are banned' banned.awk common/a.c '1: strcpy\(\): use snprintf' <<'S'
    strcpy(a, b);
S
expect 'names that only contain a banned one are fine' banned.awk common/a.c '' <<'S'
    my_strcpy(a, b); strtok_r(a, b, &c); x->free(y); mem_free(z); table.exit(1);
S
expect 'comments and strings are not code' banned.awk common/a.c '' <<'S'
/* never strcpy(a, b)
 * nor gets(a) */
    puts("strcpy(a, b) \" gets(x)"); // sprintf(x)
    char c = '"'; puts("gets(x)");
S
expect 'free() needs a reason' banned.awk client/a.c '2: free\(\): use common/mem.h' <<'S'
    free(text); /* of jansson */
    free(other);
S
expect 'unfinished work is found' banned.awk client/a.c '1: unfinished' <<'S'
/* TODO: the rest */
S
expect 'library code does not exit' banned.awk server/nn/a.c '1: exit\(\)' <<'S'
    exit(1);
S
expect 'main may exit' banned.awk client/main.c '' <<'S'
    exit(1);
S

{
    printf 'static int f(int a,\n             int b) {\n'
    awk 'BEGIN { for (i = 0; i < 77; i++) print "    a++;" }'
    printf '}\n'
} >"$dir/fits"
sed 's/^}/    a--;\n}/' "$dir/fits" >"$dir/too_long"
awk 'BEGIN { for (i = 0; i < 601; i++) print "int x;" }' >"$dir/large"
expect 'a function of 80 lines is fine' sizes.awk common/a.c '' <"$dir/fits"
expect 'a function of 81 is not' sizes.awk common/a.c '1: static int f\(\): 81 lines' <"$dir/too_long"
expect 'a file of 601 lines is not' sizes.awk common/a.c '1: 601 lines' <"$dir/large"
exit $status
