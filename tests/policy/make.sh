#!/usr/bin/env bash
# Forges the networks of tests/policy/networks.txt (ONE a line: name, then options of onp-forge) where they are missing, trains the
# policy on them, and writes server/agent/weights/policy.bin. Called by `make policy`. SEED=1 EPOCHS=25. Minutes to an hour of work;
# forged networks and inversions are kept in the build folder, so that a run that was cut off goes on.
set -euo pipefail

build=${ONP_BUILD:-build}
work=$build/policy
out=${1:-server/agent/weights/policy.bin}
mkdir -p "$work/networks" "$work/cache"
folders=()
while read -r name options; do
    case $name in '' | '#'*) continue ;; esac
    folder=$work/networks/$name
    if [ ! -f "$folder/info.json" ]; then
        # shellcheck disable=SC2086 # options are words
        "$build/onp-forge" $options --out "$folder" --quiet
    fi
    folders+=("$folder")
done < tests/policy/networks.txt
"$build/tests/policy/train" --out "$out" --cache "$work/cache" --seed "${SEED:-1}" --epochs "${EPOCHS:-25}" "${folders[@]}"
