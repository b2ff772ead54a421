#!/bin/sh
# A step of a pipeline: uploads a model and clean samples, has the backdoor removed, takes the repaired model, and fails the build if the
# figures are not good enough. Needs curl, jq and onp. ONP_SERVER, and ONP_TOKEN if the server wants one, come from the environment.
#
#   repair.sh MODEL.onnx CLEAN.npz OUT.onnx [PROBE.npz]
#
# A step that is run again with the same BUILD_ID does not submit a second job. Exit: as onp, 3 if a gate is not met.
set -eu
model=$1 samples=$2 out=$3 probe=${4:-}
accuracy_drop=${MAX_ACCURACY_DROP:-0.03}
asr_after=${MAX_ASR:-0.10}
key=${BUILD_ID:-$(cat "$model" "$samples" | sha256sum | cut -c 1-32)}
server=${ONP_SERVER:?the address of onpd, such as https://onp.example.org}

call() {
    curl --fail-with-body --silent --show-error --retry 5 --retry-all-errors --retry-delay 2 \
        ${ONP_TOKEN:+-H "Authorization: Bearer $ONP_TOKEN"} "$@"
}

# The same file again gives the same id: uploads may be repeated.
model_id=$(call --data-binary "@$model" "$server/v1/models?name=$(basename "$model")" | jq -r .id)
samples_id=$(call --data-binary "@$samples" "$server/v1/samples?name=$(basename "$samples")" | jq -r .id)
probe_id=
[ -z "$probe" ] || probe_id=$(call --data-binary "@$probe" "$server/v1/samples?name=$(basename "$probe")" | jq -r .id)

request=$(jq -nc --arg m "$model_id" --arg s "$samples_id" --arg p "$probe_id" --argjson set "${PARAMETERS:-{\}}" \
    '{model_id: $m, samples_id: $s, method: "onp", seed: 1, parameters: $set} + (if $p == "" then {} else {probe_id: $p} end)')
job=$(call -H 'Content-Type: application/json' -H "Idempotency-Key: $key" --data-binary "$request" "$server/v1/jobs" | jq -r .id)
echo "job $job" >&2

set -- --fail-on "accuracy_drop>$accuracy_drop"
[ -z "$probe" ] || set -- "$@" --fail-on "asr_after>$asr_after"
onp wait "$job" "$@"
onp download "$job" model.onnx -o "$out"
