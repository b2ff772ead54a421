#!/bin/sh
# The examples for pipelines, as they stand in deploy/pipeline: the Python program, and the shell bodies of the two workflows.
set -u
. tests/e2e/support/lib.sh
forge
start_onpd "$work/data" --drain 1
export ONP_SERVER="$url" PATH="$build:$PATH"

# --- the bodies of the workflows ---

# body KEY FILE: the block that stands under "KEY: |", without its indent.
body_of() {
    awk -v key="$1" '
        inside && /[^ ]/ && match($0, /^ */) && RLENGTH <= indent { exit }
        inside { if (!text) { match($0, /^ */); text = RLENGTH } print substr($0, text + 1) }
        $1 == key ":" && $2 == "|" { match($0, /^ */); indent = RLENGTH; inside = 1 }' "$2"
}

# step SHELL DROP: runs the body as the service would, in the folder $work/step; sets status.
step() {
    (cd "$work/step" && MAX_ACCURACY_DROP=$2 SETTINGS='--method evaluate' $1 "$work/body.sh") >"$work/out" 2>"$work/err" </dev/null
    status=$?
}

mkdir -p "$work/step/models" "$work/step/in"
cp "$model" "$work/step/models/model.onnx"
cp "$clean" "$work/step/models/clean.npz"
body_of run deploy/pipeline/github-actions.yaml >"$work/body.sh"
export MODEL=models/model.onnx SAMPLES=models/clean.npz GITHUB_RUN_ID=17 GITHUB_JOB=repair GITHUB_SHA=abc \
    GITHUB_OUTPUT="$work/output" GITHUB_STEP_SUMMARY="$work/summary"
step 'bash -e' 1
equal 'the step of GitHub Actions' "$status" 0
[ "$status" = 0 ] || cat "$work/err"
check 'leaves the repaired model' test -s "$work/step/repaired.onnx"
check 'and the page of the report' grep -q '<h1>Report of onp</h1>' "$work/step/report.html"
contains 'and a summary' "$(cat "$work/summary")" 'accuracy'
step 'bash -e' -1
equal 'a gate that is not met fails it' "$status" 3
equal 'run again it queues no second job' "$(sort -u "$work/output" | grep -c '^job=job_')" 1

cp "$model" "$clean" "$work/step/in/"
body_of source deploy/pipeline/argo.yaml >"$work/body.sh"
export WORK="$work/step" KEY=workflow-3
step sh 1
equal 'the script of Argo' "$status" 0
[ "$status" = 0 ] || cat "$work/err"
check 'leaves the repaired model' cmp -s "$work/step/out/repaired.onnx" "$work/step/repaired.onnx"
check 'and the report' is_json "$work/step/out/report.json" '.method == "evaluate"'
step sh -1
equal 'a gate that is not met fails it, too' "$status" 3
ONP_SERVER=http://127.0.0.1:9 step sh 1
equal 'no server' "$status" 4

# --- the Python program ---

if ! command -v python3 >/dev/null 2>&1; then
    echo 'skip - the Python program: python3 is not installed'
    finish
fi
export PYTHONDONTWRITEBYTECODE=1
# repair WORDS...: sets status, err.
repair() {
    timeout -k 5 "$limit" deploy/pipeline/repair.py "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    err=$(cat "$work/err")
}
repair "$model" "$clean" "$work/repaired.onnx" --probe "$probe" --report "$work/report.json" --key build-1 --method evaluate \
    --accept unjudged --max-accuracy-drop 1 --max-asr 1
equal 'the Python program' "$status" 0
[ "$status" = 0 ] || cat "$work/err"
equal 'says the digest of the model' "$(cut -d ' ' -f 2 "$work/out")" "$(sha256sum <"$work/repaired.onnx" | cut -d ' ' -f 1)"
contains 'and the stages' "$err" 'job_*succeeded'
check 'leaves the report' is_json "$work/report.json" '.probe.asr_before >= 0'
repair "$model" "$clean" "$work/repaired.onnx" --probe "$probe" --key build-1 --method evaluate --accept unjudged --max-asr -1
contains 'a gate that is not met' "$status $err" '3 *attack success'
repair "$model" "$clean" "$work/repaired.onnx" --probe "$probe" --key build-1 --method evaluate
contains 'a verdict that is not accepted' "$status $err" '3 *unjudged'
request GET '/v1/jobs'
equal 'run again it queues no second job' "$(json '.data | length')" 3
printf 'no model' >"$work/bad.onnx"
repair "$work/bad.onnx" "$clean" "$work/never.onnx"
contains 'a file that is no model' "$status $err" '1 *failed to*'
check 'writes nothing' test ! -e "$work/never.onnx"
repair "$work/nowhere.onnx" "$clean" "$work/never.onnx"
contains 'a file that is not there' "$status $err" '1 *nowhere.onnx'
ONP_SERVER=http://127.0.0.1:9 repair "$model" "$clean" "$work/never.onnx"
contains 'no server' "$status $err" '4 failed to reach'
equal 'each in one line' "$(wc -l <"$work/err")" 1
repair "$model"
equal 'wrong words' "$status" 2

# On a bad line: what was asked for is done once, and arrives whole.
printf 'PATCH up 90000\n/v1/jobs answer\n/v1/jobs/ answer\nartifacts/model.onnx down 90000\n' >"$work/plan"
echo "${url##*:}" >"$work/target"
python3 tests/e2e/support/cutting_proxy.py "$work/plan" "$work/proxy" "$work/target" >"$work/cuts" 2>"$work/proxy.log" &
proxy_pid=$!
trap 'kill "$proxy_pid" 2>/dev/null; clean_up' EXIT
await 60 test -s "$work/proxy"
ONP_SERVER=http://127.0.0.1:$(cat "$work/proxy") repair "$model" "$forged/test.npz" "$work/cut.onnx" --method evaluate --accept unjudged
equal 'the Python program goes on through cuts' "$status $(wc -l <"$work/cuts") $(cut -d ' ' -f 2 "$work/out")" \
    "0 4 $(sha256sum <"$work/cut.onnx" | cut -d ' ' -f 1)"
[ "$status" = 0 ] || cat "$work/err" "$work/cuts"
request GET '/v1/jobs'
equal 'and queues one job' "$(json '.data | length')" 4
finish
