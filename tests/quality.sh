#!/usr/bin/env bash
# Repairs every model of a folder and lets an independent judge (ONNX Runtime) measure the files before and after.
#
#   make quality [ONP_ZOO=folder] [SEEDS="1 2 3"] [MODELS="a b"] [QUALITY_OUT=folder] [ONP_SET="key=value ..."]
#
# The folder has one folder a model with model.onnx, clean.npz and, for a backdoored one, probe.npz; clean test sets lie beside them:
# cifar10-test.npz, and cifar10-test-norm.npz for models whose info.json says that the normalisation is not in the graph.
# The judge is a folder with judge.js and its package.json (ONP_JUDGE, else ../shared/tools/judge); it is copied into the build
# folder and its packages are installed there. Writes table.md and results.jsonl; a row that is there is not measured again.
set -euo pipefail

build=${ONP_BUILD:-build}
zoo=${ONP_ZOO:-../shared/zoo}
judge_from=${ONP_JUDGE:-../shared/tools/judge}
out=${QUALITY_OUT:-$build/quality}
seeds=${SEEDS:-1}
judge=$build/judge
die() { echo "quality: $*" >&2; exit 1; }

if [ ! -x "$build/onp" ] || [ ! -x "$build/onpd" ]; then die "failed to find $build/onp and $build/onpd: build first"; fi
[ -d "$zoo" ] || die "failed to find the models: got no folder '$zoo', set ONP_ZOO"
command -v node > /dev/null || die "failed to find node, which the judge runs on"
if [ ! -d "$judge/node_modules" ]; then
    [ -f "$judge_from/judge.js" ] || die "failed to find the judge: got no '$judge_from/judge.js', set ONP_JUDGE"
    mkdir -p "$judge"
    cp "$judge_from/judge.js" "$judge_from/package.json" "$judge/"
    (cd "$judge" && npm install --ignore-scripts --no-audit --no-fund > /dev/null)
fi
mkdir -p "$out"
results=$out/results.jsonl
touch "$results"
if [ -n "${MODELS:-}" ]; then
    read -r -a models <<< "$MODELS"
else
    models=()
    for folder in "$zoo"/*/; do models+=("$(basename "$folder")"); done
fi
set_args=()
for pair in ${ONP_SET:-}; do set_args+=(--set "$pair"); done

for model in "${models[@]}"; do
    folder=$zoo/$model
    test_set=$zoo/cifar10-test.npz
    if grep -q '"normalisation_in_graph": 0' "$folder/info.json" 2> /dev/null; then test_set=$zoo/cifar10-test-norm.npz; fi
    [ -f "$folder/test.npz" ] && test_set=$folder/test.npz
    probe=()
    [ -f "$folder/probe.npz" ] && probe=(--probe "$folder/probe.npz")
    for seed in $seeds; do
        if jq -es --arg m "$model" --argjson s "$seed" 'any(.model == $m and .seed == $s)' "$results" > /dev/null; then
            continue
        fi
        name=$out/$model-$seed
        "$build/onp" run "$folder/model.onnx" --samples "$folder/clean.npz" \
            "${probe[@]}" --seed "$seed" "${set_args[@]}" -o "$name.onnx" --report "$name.json" > "$name.log" 2>&1 ||
            { echo "quality: $model, seed $seed: the job failed, see $name.log" >&2; continue; }
        before=$(node "$judge/judge.js" "$folder/model.onnx" --clean "$test_set" "${probe[@]}")
        after=$(node "$judge/judge.js" "$name.onnx" --clean "$test_set" "${probe[@]}")
        jq -cn --arg model "$model" --argjson seed "$seed" --argjson before "$before" --argjson after "$after" \
            --slurpfile report "$name.json" '$report[0] as $r | {
                model: $model, seed: $seed, accuracy_before: $before.accuracy, accuracy_after: $after.accuracy,
                asr_before: $before.asr, asr_after: $after.asr, recovery_after: $after.ra, verdict: $r.verdict,
                pruned_units: $r.pruned_units, evaluations: $r.search.evaluations, reward: $r.search.reward,
                seconds: $r.seconds, peak_memory_bytes: $r.provenance.peak_memory_bytes}' >> "$results"
        tail -n 1 "$results" | jq -r '"\(.model) seed \(.seed): \(.verdict), attack success \(.asr_after // "-"), " +
            "accuracy \(.accuracy_before) -> \(.accuracy_after), \(.seconds.total | floor) s"'
    done
done

{
    echo '| model | seed | verdict | accuracy before | after | attack success before | after | recovery | pruned | evaluations | reward none / greedy / random / PPO | seconds | peak MB |'
    echo '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |'
    jq -r 'def p: if . == null then "-" else (. * 1000 | round / 10 | tostring) + " %" end;
           def r: if . == null then "-" else (. * 1000 | round / 1000 | tostring) end;
           "| \(.model) | \(.seed) | \(.verdict) | \(.accuracy_before | p) | \(.accuracy_after | p) | \(.asr_before | p) | " +
           "\(.asr_after | p) | \(.recovery_after | p) | \(.pruned_units) | \(.evaluations) | \(.reward.none | r) / " +
           "\(.reward.greedy | r) / \(.reward.random | r) / \(.reward.best | r) | \(.seconds.total | round) | \(.peak_memory_bytes / 1e6 | round) |"' "$results"
} > "$out/table.md"
cat "$out/table.md"
