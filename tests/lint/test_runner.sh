#!/bin/sh
# The test runner itself: a runner that miscounts would hide every other failure.
set -u
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
status=0

# program NAME: makes an executable from standard input
program() {
    { printf '#!/bin/sh\n' && cat; } >"$dir/$1"
    chmod +x "$dir/$1"
}

# expect NAME LAST-LINE EXIT PROGRAM...: runs the runner over the programs
expect() {
    name=$1 wanted=$2 code=$3
    shift 3
    ONP_TEST_TIMEOUT=${limit:-60} ONP_TEST_UNTIL=${until_s:-} tests/run "$@" >"$dir/log" 2>&1
    got_code=$?
    got=$(tail -n 1 "$dir/log")
    if [ "$got" = "$wanted" ] && [ "$got_code" -eq "$code" ]; then
        printf 'ok - %s\n' "$name"
    else
        printf 'not ok - %s: got "%s" and status %d, expected "%s" and %d\n' "$name" "$got" "$got_code" "$wanted" "$code"
        status=1
    fi
}

program good <<'P'
echo '[==========] Running 2 test(s).'
echo '[ RUN      ] a'
echo '[       OK ] a'
echo '[ RUN      ] b'
printf 'no line end' >&2
echo '[       OK ] b'
echo '[==========] 2 test(s) run.'
echo '[  PASSED  ] 2 test(s).'
P
program skips <<'P'
echo '[==========] Running 2 test(s).'
echo '[       OK ] a'
echo '[  SKIPPED ] b'
echo '[==========] 2 test(s) run.'
echo '[  PASSED  ] 1 test(s).'
echo '[  SKIPPED ] 1 test(s), listed below:'
echo '[  SKIPPED ] b'
P
program bad <<'P'
echo '[==========] Running 3 test(s).'
echo '[       OK ] a'
echo '[  FAILED  ] b'
echo '[       OK ] c'
echo '[==========] 3 test(s) run.'
echo '[  FAILED  ] 1 test(s), listed below:'
echo '[  FAILED  ] b'
exit 1
P
program two_groups <<'P'
for group in 1 2; do
    echo '[==========] Running 1 test(s).'
    echo '[       OK ] a'
    echo '[==========] 1 test(s) run.'
    echo '[  PASSED  ] 1 test(s).'
done
P
program crash <<'P'
echo '[==========] Running 3 test(s).'
echo '[       OK ] a'
kill -SEGV $$
P
program early_crash <<'P'
kill -SEGV $$
P
program leaves_quietly <<'P'
echo '[==========] Running 2 test(s).'
echo '[       OK ] a'
exit 0
P
program leak <<'P'
echo '[==========] Running 1 test(s).'
echo '[       OK ] a'
echo '[==========] 1 test(s) run.'
exit 23
P
program silent </dev/null
program slow <<'P'
echo '[==========] Running 1 test(s).'
exec sleep 600
P
program good.sh <<'P'
echo 'ok - one'
echo 'skip - two: no such model here'
P
program bad.sh <<'P'
echo 'ok - one'
echo 'not ok - two'
exit 1
P
program quiet_failure.sh <<'P'
echo 'ok - one'
exit 1
P

expect 'passed cases are counted' '2 passed, 0 failed' 0 "$dir/good"
expect 'skipped cases are not counted twice' '1 passed, 0 failed, 1 skipped' 0 "$dir/skips"
expect 'failed cases are not counted twice' '2 passed, 1 failed' 1 "$dir/bad"
expect 'groups add up' '2 passed, 0 failed' 0 "$dir/two_groups"
expect 'cases lost in a crash have failed' '1 passed, 2 failed' 1 "$dir/crash"
expect 'a crash before the first case is a failure' '0 passed, 1 failed' 1 "$dir/early_crash"
expect 'cases that never ran have failed' '1 passed, 1 failed' 1 "$dir/leaves_quietly"
expect 'an error status without a failed case is a failure' '1 passed, 1 failed' 1 "$dir/leak"
expect 'a program without cases is a failure' '0 passed, 1 failed' 1 "$dir/silent"
limit=2 expect 'a program that hangs is a failure' '0 passed, 1 failed' 1 "$dir/slow"
expect 'shell tests are counted' '1 passed, 0 failed, 1 skipped' 0 "$dir/good.sh"
expect 'shell tests may fail' '1 passed, 1 failed' 1 "$dir/bad.sh"
expect 'shell tests may fail without saying so' '1 passed, 1 failed' 1 "$dir/quiet_failure.sh"
expect 'a missing program is a failure' '0 passed, 1 failed' 1 "$dir/no-such"
expect 'no test at all is an error' '0 passed, 0 failed' 1
until_s=1 expect 'what would begin too late is said to be skipped' '0 passed, 0 failed, 2 skipped' 0 "$dir/good" "$dir/bad"
until_s=99999999999 expect 'what begins in time is run' '2 passed, 0 failed' 0 "$dir/good"
expect 'one failure spoils the whole' '5 passed, 1 failed, 1 skipped' 1 "$dir/good" "$dir/skips" "$dir/bad"
exit $status
