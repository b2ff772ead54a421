#!/bin/sh
# Runs the corpora and what fuzzing has found before through the targets, built without a fuzzer.
build=${ONP_BUILD:-build}
status=0
for source in tests/fuzz/fuzz_*.c; do
    target=${source#tests/fuzz/fuzz_}
    target=${target%.c}
    set --
    for file in tests/fuzz/corpus/"$target"/* tests/fuzz/regression/"$target"/*; do
        [ -f "$file" ] && set -- "$@" "$file"
    done
    case $target in
    onnx) set -- "$@" tests/data/onnx_*/*/model.onnx ;;
    samples) set -- "$@" tests/data/npz_bad/*/samples.npz tests/data/zip_*/*/samples.zip ;;
    esac
    if "$build/tests/fuzz/fuzz_$target" "$@"; then
        printf 'ok - %s survives its corpus\n' "$target"
    else
        printf 'not ok - %s survives its corpus\n' "$target"
        status=1
    fi
done
exit $status
