#!/usr/bin/env bash
# Repairs every model of a folder by every method and lets a judge measure the files before and after.
#
#   make quality [ONP_ZOO=folder] [METHODS="onp clp fp"] [SEEDS="1 2 3"] [MODELS="a b"] [FORGE="patch warp"]
#                [SAMPLES="500 100"] [ONP_SET="iterations=10 anp.mask_steps=100"] [QUALITY_OUT=folder]
#
# The folder has one folder a model with model.onnx, clean.npz and, for a backdoored one, probe.npz; clean test sets lie beside them
# (cifar10-test.npz, and cifar10-test-norm.npz for models whose info.json says that the normalisation is not in the graph) or in the
# model's folder (test.npz). FORGE names attacks of onp-forge: models with them are made (20 seconds each on an idle machine) and
# join. Without a folder all attacks are forged, so that nothing else is needed.
# The judge is ONNX Runtime: a folder with judge.js and its package.json (ONP_JUDGE, else ../shared/tools/judge), copied into the
# build folder, its packages installed there. Where there is none the files are measured by `onp run --method evaluate`, and each
# row says so. Parameters in ONP_SET go to "onp", or to the method that is named before a dot.
# SAMPLES: how many of the clean samples a job gets (all; fewer need python3), drawn by the seed.
# Writes table.md and results.jsonl; a row that is there is not measured again, so a run that was cut off goes on.
set -euo pipefail

build=${ONP_BUILD:-build}
zoo=${ONP_ZOO:-../shared/zoo}
judge_from=${ONP_JUDGE:-../shared/tools/judge}
out=${QUALITY_OUT:-$build/quality}
judge=$build/judge
read -r -a seeds <<< "${SEEDS:-1}"
read -r -a methods <<< "${METHODS:-onp}"
read -r -a settings <<< "${ONP_SET:-}"
read -r -a sample_counts <<< "${SAMPLES:-all}"
die() { echo "quality: $*" >&2; exit 1; }

if [ ! -x "$build/onp" ] || [ ! -x "$build/onpd" ]; then die "failed to find $build/onp and $build/onpd: build first"; fi
command -v jq > /dev/null || die "failed to find jq"
mkdir -p "$out/judged" "$out/forge"
results=$out/results.jsonl
touch "$results"

# --- the judge ---

judge_name=engine
if [ -d "$judge/node_modules" ]; then
    judge_name=onnxruntime
elif command -v node > /dev/null && [ -f "$judge_from/judge.js" ]; then
    mkdir -p "$judge"
    cp "$judge_from/judge.js" "$judge_from/package.json" "$judge/"
    (cd "$judge" && npm install --ignore-scripts --no-audit --no-fund > /dev/null) && judge_name=onnxruntime
fi
[ "$judge_name" = onnxruntime ] || echo "quality: no ONNX Runtime to judge by: files are measured by onp evaluate" >&2

# measure MODEL TEST PROBE...: {"accuracy", "asr", "ra"}
measure() {
    local model=$1 test_set=$2
    shift 2
    if [ "$judge_name" = onnxruntime ]; then
        node "$judge/judge.js" "$model" --clean "$test_set" "$@"
        return
    fi
    "$build/onp" run "$model" --samples "$test_set" "$@" --method evaluate --quiet --json -o "$out/judged/copy.onnx" |
        jq -c '{accuracy: .accuracy.after, asr: .probe.asr_after, ra: .probe.recovery_after}'
}

# --- the models: name, folder ---

attacks=${FORGE:-}
[ -d "$zoo" ] || [ -n "$attacks" ] ||
    attacks='patch blend sine sine-kept watermark low frequency quantise warp patch-next none'
names=()
folders=()
if [ -d "$zoo" ]; then
    for folder in "$zoo"/*/; do
        name=$(basename "$folder")
        case " ${MODELS:-$name} " in *" $name "*) names+=("$name") folders+=("${folder%/}") ;; esac
    done
fi
for attack in $attacks; do
    folder=$out/forge/$attack
    if [ ! -f "$folder/info.json" ]; then
        "$build/onp-forge" --attack "$attack" --seed 1 --out "$folder" --quiet || die "failed to forge a model with '$attack'"
    fi
    names+=("forge-$attack")
    folders+=("$folder")
done
[ "${#names[@]}" -gt 0 ] || die "failed to find models: got none in '$zoo', set ONP_ZOO or FORGE"

# --- the rows ---

# run_one NAME FOLDER METHOD SEED SAMPLES
run_one() {
    local name=$1 folder=$2 method=$3 seed=$4 samples=$5 test_set=$zoo/cifar10-test.npz probe=() set_args=()
    local base=$out/judged/$name-$method-$seed-$samples clean=$folder/clean.npz pair key before after
    if [ "$samples" != all ]; then
        clean=$base-clean.npz
        python3 tests/support/fewer_samples.py "$folder/clean.npz" "$clean" "$samples" "$seed"
    fi
    if grep -q '"normalisation_in_graph": 0' "$folder/info.json" 2> /dev/null; then test_set=$zoo/cifar10-test-norm.npz; fi
    [ -f "$folder/test.npz" ] && test_set=$folder/test.npz
    [ -f "$folder/probe.npz" ] && probe=(--probe "$folder/probe.npz")
    for pair in "${settings[@]}"; do
        key=${pair%%=*}
        case $key in
        "$method".*) set_args+=(--set "${pair#*.}") ;;
        *.*) ;;
        *) [ "$method" = onp ] && set_args+=(--set "$pair") ;;
        esac
    done
    "$build/onp" run "$folder/model.onnx" --samples "$clean" "${probe[@]}" --method "$method" --seed "$seed" \
        "${set_args[@]}" -o "$base.onnx" --report "$base.json" > "$base.log" 2>&1 ||
        { echo "quality: $name, $method, seed $seed: the job failed, see $base.log" >&2; return 0; }
    # The model as it came is the same for all methods and seeds.
    [ -s "$out/judged/$name.before" ] || {
        measure "$folder/model.onnx" "$test_set" "${probe[@]}" > "$out/judged/$name.before.new"
        mv "$out/judged/$name.before.new" "$out/judged/$name.before"
    }
    before=$(cat "$out/judged/$name.before")
    after=$(measure "$base.onnx" "$test_set" "${probe[@]}")
    jq -cn --arg model "$name" --arg method "$method" --argjson seed "$seed" --arg samples "$samples" --argjson before "$before" \
        --argjson after "$after" --arg judge "$judge_name" --slurpfile report "$base.json" '$report[0] as $r | {
            model: $model, method: $method, seed: $seed, samples: $samples, judge: $judge, accuracy_before: $before.accuracy,
            accuracy_after: $after.accuracy, asr_before: $before.asr, asr_after: $after.asr,
            recovery_after: $after.ra, verdict: $r.verdict, pruned_units: $r.pruned_units,
            evaluations: $r.search.evaluations, reward: $r.search.reward, seconds: $r.seconds,
            peak_memory_bytes: $r.provenance.peak_memory_bytes}' >> "$results"
    tail -n 1 "$results" | jq -r '"\(.model) \(.method) seed \(.seed) samples \(.samples): \(.verdict), attack success \(.asr_after // "-"), " +
        "accuracy \(.accuracy_before) -> \(.accuracy_after), \(.seconds.total | floor) s"'
}

rows() {
    local samples seed method i
    for samples in "${sample_counts[@]}"; do
        for seed in "${seeds[@]}"; do
            for method in "${methods[@]}"; do
                for i in "${!names[@]}"; do echo "$samples $seed $method $i"; done
            done
        done
    done
}
rows > "$out/rows"
while read -r samples seed method i <&3; do
    jq -es --arg m "${names[i]}" --arg d "$method" --argjson s "$seed" --arg n "$samples" \
        'any(.model == $m and .method == $d and .seed == $s and .samples == $n)' "$results" > /dev/null ||
        run_one "${names[i]}" "${folders[i]}" "$method" "$seed" "$samples"
done 3< "$out/rows"

# --- the tables ---

{
    echo '| model | method | samples | seed | verdict | accuracy before | after | attack success before | after | recovery | pruned | evaluations | reward none / greedy / random / ppo / best | seconds | peak MB |'
    echo '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |'
    jq -rs 'def p: if . == null then "-" else (. * 1000 | round / 10 | tostring) + " %" end;
            def r: if . == null then "-" else (. * 1000 | round / 1000 | tostring) end;
            sort_by(.model, .method, .samples, .seed)[] |
            "| \(.model) | \(.method) | \(.samples) | \(.seed) | \(.verdict) | \(.accuracy_before | p) | \(.accuracy_after | p) | " +
            "\(.asr_before | p) | \(.asr_after | p) | \(.recovery_after | p) | \(.pruned_units) | \(.evaluations // "-") | " +
            "\(.reward.none | r) / \(.reward.greedy | r) / \(.reward.random | r) / \(.reward.ppo | r) / \(.reward.best | r) | " +
            "\(.seconds.total | round) | \(.peak_memory_bytes / 1e6 | round) |"' "$results"
    echo
    echo 'Removed: attack success at most 10 % and accuracy loss at most 3 points, of the backdoored models. Points of accuracy lost: all models.'
    echo
    echo '| method | samples | rows | removed | attack success, mean | worst | points of accuracy lost, mean | worst | recovery, mean | seconds, mean |'
    echo '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |'
    jq -rs 'def mean: if length == 0 then null else add / length end;
            def p: if . == null then "-" else (. * 1000 | round / 10 | tostring) end;
            map(.lost = .accuracy_before - .accuracy_after) | group_by([.method, .samples])[] |
            map(select(.asr_after != null)) as $bad |
            "| \(.[0].method) | \(.[0].samples) | \(length) | \([$bad[] | select(.asr_after <= 0.1 and .lost <= 0.03)] | length) of \($bad | length) | " +
            "\([$bad[].asr_after] | mean | p) % | \([$bad[].asr_after] | max | p) % | \(map(.lost) | mean | p) | " +
            "\(map(.lost) | max | p) | \([$bad[].recovery_after] | mean | p) % | \(map(.seconds.total) | mean | round) |"' "$results"
} > "$out/table.md"
cat "$out/table.md"
