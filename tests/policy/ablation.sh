#!/usr/bin/env bash
# What each part of the search is worth, over the backdoored models of a folder (ONP_ZOO, laid out as for tests/quality.sh): runs
# the variants of tests/policy/ablation.c and has each repaired file judged.
#
#   make ablation [ONP_ZOO=folder] [MODELS="a b"] [SEEDS="1 2"] [VARIANTS="full no-graph"] [ABLATION_OUT=folder]
#
# Judged by ONNX Runtime as in tests/quality.sh (run that first: it installs the judge), else by the probe figures of `onp run
# --method evaluate`. A model and seed whose lines are there are not run again. Prints and writes table.md.
set -euo pipefail

build=${ONP_BUILD:-build}
zoo=${ONP_ZOO:-../shared/zoo}
out=${ABLATION_OUT:-$build/ablation}
judge=${ONP_JUDGE:-$build/judge}
read -r -a seeds <<< "${SEEDS:-1}"
variants=${VARIANTS:-full untrained no-graph no-warm-start no-adversary no-agent}
mkdir -p "$out"
lines=$out/lines.jsonl
touch "$lines"

# measure MODEL TEST PROBE: {"accuracy", "asr", "ra"}
measure() {
    if [ -d "$judge/node_modules" ]; then
        node "$judge/judge.js" "$1" --clean "$2" --probe "$3"
    else
        "$build/onp" run "$1" --samples "$2" --probe "$3" --method evaluate --quiet --json -o "$out/copy.onnx" |
            jq -c '{accuracy: .accuracy.after, asr: .probe.asr_after, ra: .probe.recovery_after}'
    fi
}

# run_model FOLDER SEED
run_model() {
    local folder=$1 seed=$2 name test_set=$zoo/cifar10-test.npz wanted='' variant
    name=$(basename "$folder")
    for variant in $variants; do
        jq -es --arg m "$name" --argjson s "$seed" --arg v "$variant" 'any(.model == $m and .seed == $s and .variant == $v)' \
            "$lines" > /dev/null || wanted="$wanted $variant"
    done
    [ -n "$wanted" ] || return 0
    if grep -q '"normalisation_in_graph": 0' "$folder/info.json" 2> /dev/null; then test_set=$zoo/cifar10-test-norm.npz; fi
    [ -f "$folder/test.npz" ] && test_set=$folder/test.npz
    "$build/tests/policy/ablation" "$folder" --out "$out/$name-$seed" --cache "$out/$name-$seed/cache" --seed "$seed" \
        --variants "${wanted# }" | while read -r line; do
        variant=$(jq -r .variant <<< "$line")
        judged=$(measure "$out/$name-$seed/$variant/model.onnx" "$test_set" "$folder/probe.npz")
        jq -c --arg m "$name" --argjson judged "$judged" '. + {model: $m, judged: $judged}' <<< "$line" >> "$lines"
        echo "$name seed $seed $variant: $(jq -c '[.search.reward.ppo, .search.reward.best]' <<< "$line") $judged" >&2
    done
}

for seed in "${seeds[@]}"; do
    for folder in "$zoo"/*/; do
        name=$(basename "$folder")
        case " ${MODELS:-$name} " in *" $name "*) ;; *) continue ;; esac
        if [ -f "$folder/probe.npz" ]; then run_model "${folder%/}" "$seed"; fi
    done
done

{
    echo '| model | seed | variant | reward greedy | random | PPO | chosen | evaluations | pruned | accuracy | attack success | recovery |'
    echo '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |'
    jq -rs --arg order "$variants" 'def p: if . == null then "-" else (. * 1000 | round / 10 | tostring) + " %" end;
            def r: if . == null then "-" else (. * 10000 | round / 10000 | tostring) end;
            ($order | split(" ")) as $names |
            sort_by(.model, .seed, (.variant as $v | $names | index($v)))[] |
            "| \(.model) | \(.seed) | \(.variant) | \(.search.reward.greedy | r) | \(.search.reward.random | r) | " +
            "\(.search.reward.ppo | r) | \(.search.reward.best | r) | \(.search.evaluations) | \(.pruned) | " +
            "\(.judged.accuracy | p) | \(.judged.asr | p) | \(.judged.ra | p) |"' "$lines"
} > "$out/table.md"
cat "$out/table.md"
