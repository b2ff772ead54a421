#!/bin/sh
# Real jobs through onpd over REST: from upload to artifacts, cancel, two at once, both isolations, wrong files.
set -u
. tests/e2e/support/lib.sh
forge

# --- uploads ---

start_onpd "$work/data" --workers 2 --threads 1
upload models "$model"
model_id=$id
equal 'a model is taken' "$code" 201
check 'its units are counted' test "$(json .info.units)" -gt 0
upload models "$model"
equal 'the same model again is known' "$code $id" "200 $model_id"
upload samples "$clean"
samples_id=$id
equal 'samples are taken' "$code" 201
upload samples "$probe"
probe_id=$id
equal 'a probe is taken' "$code $(json .info.has_target)" '201 true'

# --- two jobs at once, same seed; a third with another seed is queued behind them ---

submit "$fast_settings" 5 "$probe_id"
equal 'a job is accepted' "$code" 202
first=$job
check 'its place is in Location' grep -qi "^location: .*/v1/jobs/$first" "$headers"
submit "$fast_settings" 5 "$probe_id"
second=$job
submit "$fast_settings" 6
third=$job
request GET "/v1/jobs/$first/result"
case $code in 409 | 200) ok 'the result of an unfinished job is a conflict' ;; *) not_ok 'the result of an unfinished job is a conflict' "$code" ;; esac
wait_end "$first" 600
equal 'the first job succeeds' "$state" succeeded
[ "$state" = succeeded ] || json .problem
equal 'its progress ends at 1' "$(json '.progress.fraction == 1')" true
first_ran=$(json '.started_at + " " + .finished_at')
wait_end "$second" 600
equal 'the second job succeeds' "$state" succeeded
# Each began before the other one ended.
check 'two jobs run at once' test "$(json .started_at)" '<' "${first_ran#* }" -a "${first_ran% *}" '<' "$(json .finished_at)"
wait_end "$third" 600
equal 'the third job succeeds' "$state" succeeded

# --- result and artifacts ---

request GET "/v1/jobs/$first/result"
equal 'the result is there' "$code" 200
equal 'it is a report of schema 1 with the seed' "$(json '"\(.schema) \(.method) \(.seed)"')" '1 onp 5'
equal 'its figures are fractions' "$(json '[.accuracy.before, .accuracy.after, .probe.asr_before, .probe.asr_after,
    .probe.recovery_after] | all(. >= 0 and . <= 1)')" true
equal 'the forged backdoor works before' "$(json '.probe.asr_before > 0.8 and .accuracy.before > 0.7')" true
# The forged network, and so little search on it, come out differently by processor: the figures must be those of a repair, and the
# verdict one that goes with them. That a planted backdoor is "removed" is tested in tests/pipeline/test_mitigate.c.
equal 'the backdoor is removed' "$(json '"\(.verdict | . == "removed" or . == "reduced") \(.probe.asr_after <= 0.1)
    \(.accuracy.before - .accuracy.after <= 0.03)"' | tr -s ' \n' ' ')" 'true true true '
equal 'pruned units are those of the list' "$(json '([.pruned[].channels | length] | add // 0) == .pruned_units')" true
cp "$body" "$work/result.json"
request GET "/v1/jobs/$first/artifacts/report.json"
equal 'report.json is the result' "$(jq -cS . "$body" | sha256sum)" "$(jq -cS . "$work/result.json" | sha256sum)"
request GET "/v1/jobs/$first/artifacts/mask.json"
check 'mask.json is JSON' is_json "$body"
request GET "/v1/jobs/$first/artifacts/trace.jsonl"
check 'trace.jsonl is lines of JSON' is_json "$body"
request GET "/v1/jobs/$first/artifacts/triggers.json"
equal 'triggers.json has pixels of the suspect' "$(json '(.triggers | length > 0) and
    (.triggers[0] | .class == 2 and (.clean | @base64d | length > 0) and .clean != .triggered)')" true
request GET "/v1/jobs/$first/artifacts/units.json"
equal 'units.json has each feature of each unit' "$(json '(.features | length) as $n | .layers |
    length > 0 and all(.values | length == $n and all(length > 0))')" true
equal 'units.json has the pruned units' "$(json '[.layers[].pruned | length] | add')" "$(jq .pruned_units "$work/result.json")"
request GET "/v1/jobs/$first/artifacts/model.onnx"
check 'model.onnx is there' test "$code" = 200 -a "$(wc -c <"$body")" -gt 1000
cp "$body" "$work/repaired.onnx"
request GET "/v1/jobs/$first/artifacts/model.onnx" -H 'Range: bytes=10-19'
equal 'a part of it can be asked for' "$code $(wc -c <"$body")" '206 10'
check 'the part is that of the file' sh -c "tail -c +11 '$work/repaired.onnx' | head -c 10 | cmp -s - '$body'"
request GET "/v1/jobs/$first/artifacts/secrets.txt"
equal 'another name is not there' "$code" 404
request GET "/v1/jobs/$third/result"
equal 'without a probe the probe figures are null' "$(json .probe)" null

# --- the same seed ---

sha=$(model_sha "$first")
equal 'the same seed gives the same model' "$(model_sha "$second")" "$sha"
request POST '/v1/models?name=repaired.onnx' --data-binary "@$work/repaired.onnx"
check 'the repaired model can be uploaded' test "$code" = 201 -o "$code" = 200

# --- cancel ---

submit "$slow_settings" 1
check 'a slow job starts' wait_state "$job" running 300
sleep 1
request POST "/v1/jobs/$job/cancel"
equal 'cancel is accepted' "$code" 202
wait_end "$job" 600
equal 'a running job is cancelled' "$state" cancelled
request POST "/v1/jobs/$job/cancel"
equal 'cancel again is fine' "$code" 202
request GET "/v1/jobs/$job/result"
equal 'a cancelled job has no result' "$code" 409
request POST "/v1/jobs/$first/cancel"
equal 'a finished job is not cancelled' "$code" 409
check 'no child is left' test -z "$(onpd_children)"

# --- what is wrong is said with its place ---

printf 'this is no model' >"$work/bad.onnx"
upload models "$work/bad.onnx"
equal 'text is no model' "$code $(json .status)" '422 422'
head -c 5000 "$model" >"$work/cut.onnx"
upload models "$work/cut.onnx"
equal 'a part of a model is no model' "$code" 422
check 'it is said why' test -n "$(json .detail)"
upload models "$clean"
equal 'samples are no model' "$code" 422
upload samples "$model"
equal 'a model is no samples' "$code" 422
head -c 3000 "$clean" >"$work/cut.npz"
upload samples "$work/cut.npz"
equal 'a part of samples is no samples' "$code" 422
request POST '/v1/models?name=empty.onnx' --data-binary ''
equal 'nothing is no model' "$code" 422
submit '{"iterationz": 3}' 1
equal 'an unknown parameter is refused' "$code $(json '.errors[0].pointer')" '422 /parameters/iterationz'
submit '{"iterations": -1}' 1
equal 'a parameter out of range is refused' "$code $(json '.errors[0].pointer')" '422 /parameters/iterations'
submit "$fast_settings" 1 "$samples_id"
equal 'a probe without targets is refused' "$code $(json '.errors[0].pointer')" '422 /probe_id'
request POST /v1/jobs -H 'Content-Type: application/json' --data-binary "{\"model_id\": \"$model_id\"}"
equal 'a missing member is refused' "$code $(json '.errors[0].pointer')" '422 /samples_id'
request POST /v1/jobs -H 'Content-Type: application/json' \
    --data-binary "{\"model_id\": \"$model_id\", \"samples_id\": \"$samples_id\", \"colour\": 1}"
equal 'an unknown member is refused' "$code $(json '.errors[0].pointer')" '422 /colour'
request GET /v1/jobs/job_00000000000000000000000000
equal 'an unknown job is not found' "$code" 404
request GET /healthz
equal 'onpd is well after all this' "$code" 200
stop_onpd
equal 'onpd ends in order' "$onpd_status" 0

# --- in the thread of the worker ---

start_onpd "$work/thread" --isolation thread --threads 1
upload models "$model"
model_id=$id
upload samples "$clean"
samples_id=$id
upload samples "$probe"
submit "$fast_settings" 5 "$id"
wait_end "$job" 600
equal 'a job succeeds in a thread' "$state" succeeded
equal 'a thread gives the same model as a process' "$(model_sha "$job")" "$sha"
submit "$slow_settings" 1
check 'a slow job starts in a thread' wait_state "$job" running 300
sleep 1
request POST "/v1/jobs/$job/cancel"
wait_end "$job" 600
equal 'a job in a thread is cancelled' "$state" cancelled
finish
