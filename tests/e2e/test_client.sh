#!/bin/sh
# onp, all its commands, against a real onpd; and `onp run` with its private one.
set -u
. tests/e2e/support/lib.sh

# run_onp WORDS...: sets status, and out and err (texts).
run_onp() {
    timeout -k 5 "$limit" "$onp" "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    out=$(cat "$work/out")
    err=$(cat "$work/err")
}

# --- words ---

run_onp
equal 'no command is wrong usage' "$status" 2
run_onp --help
equal 'help is fine' "$status" 0
for command in run upload submit status watch wait cancel result download list report compare tokens capabilities version; do
    run_onp "$command" --help
    contains "$command --help has examples" "$status $out" "0 usage: onp $command*examples:"
done
run_onp version
contains 'version' "$status $out" '0 onp 0.'
run_onp sumbit
contains 'an unknown command names the nearest' "$status $err" '2 *submit'
run_onp list --satte running
contains 'an unknown option names the nearest' "$status $err" '2 *--state'
run_onp wait job_1
contains 'a job id must be one' "$status $err" '2 *job_1'
run_onp wait job_00000000000000000000000000 --fail-on 'asr_afetr>1'
contains 'a gate names the nearest figure' "$status $err" '2 *asr_after'
run_onp run nowhere.onnx --samples nowhere.npz
contains 'a file that is not there' "$status $err" '1 *nowhere.onnx'
run_onp list --server http://127.0.0.1:9
equal 'a server that is not there' "$status" 4
run_onp list --server gopher://x
equal 'an address that is none' "$status" 1

# --- against a server ---

forge
start_onpd "$work/data"
export ONP_SERVER="$url"
run_onp capabilities
contains 'capabilities shows methods and parameters' "$status $out" '0 *onp:*max_accuracy_drop'
run_onp upload "$model" "$clean" "$probe"
equal 'upload takes three files' "$status $(wc -l <"$work/out")" '0 3'
mdl=$(sed -n '1s/ .*//p' "$work/out")
smp=$(sed -n '2s/ .*//p' "$work/out")
prb=$(sed -n '3s/ .*//p' "$work/out")
run_onp upload "$forged/log"
contains 'upload asks what an unknown file is' "$status $err" '2 *--kind'
printf 'no model' >"$work/bad.onnx"
run_onp upload "$work/bad.onnx"
contains 'a refused upload says why' "$status $err" '1 *onp: *bad.onnx: failed'
run_onp list models
contains 'list models' "$status $out" "0 *$mdl*model.onnx"
run_onp list samples --json
equal 'list samples as JSON' "$(jq -r .id "$work/out" | sort | tr '\n' ' ')" "$(printf '%s\n' "$smp" "$prb" | sort | tr '\n' ' ')"
run_onp submit "$mdl" --samples "$smp" --set iterationz=3
contains 'a wrong parameter is named' "$status $err" '1 */parameters/iterationz'
# shellcheck disable=SC2086 # words
run_onp submit "$mdl" --samples "$smp" --probe "$prb" --seed 5 --label team=red $fast_words
equal 'submit prints the id alone' "$status $(wc -w <"$work/out")" '0 1'
job=$out
run_onp watch "$job"
contains 'watch follows to the end' "$status $out" "0 $job succeeded"
contains 'watch shows the last stage' "$err" succeeded
check 'no control characters in a file' sh -c "! grep -q '$(printf '\033')' '$work/err'"
run_onp status "$job"
contains 'status' "$status $out" '0 *state*succeeded'
run_onp status "$job" --json
equal 'status as JSON' "$(jq -r '"\(.state) \(.seed) \(.labels.team)"' "$work/out")" 'succeeded 5 red'
run_onp wait "$job" --fail-on 'asr_after>1' --fail-on 'accuracy_drop>1'
contains 'wait: gates that are met' "$status $out" '0 *attack success'
run_onp wait "$job" --fail-on 'pruned_units>=0'
contains 'wait: a gate that is not met' "$status $err" '3 *pruned_units is'
run_onp result "$job" --json
equal 'result as JSON' "$status $(jq -r '"\(.schema) \(.seed)"' "$work/out")" '0 1 5'
run_onp report "$job"
contains 'report shows the stages' "$status $out" '0 *Seconds by stage*export'
run_onp report "$job" --html "$work/report.html"
contains 'report as a page' "$status $out $(cat "$work/report.html")" '0  <!DOCTYPE html>*Seconds by stage*</html>'
run_onp download "$job" -o "$work/model.onnx"
equal 'download' "$status $(sha256sum <"$work/model.onnx")" "0 $(curl -sS "$url/v1/jobs/$job/artifacts/model.onnx" | sha256sum)"
run_onp download "$job" report.json -o -
equal 'download to standard output' "$status $(jq -r .schema "$work/out")" '0 1'
run_onp download "$job" -o /dev/null --json
equal 'download into a device, as JSON' "$status $(jq -r .artifact "$work/out") $(stat -c %F /dev/null)" \
    '0 model.onnx character special file'
run_onp download "$job" report.json -o "$work/no/such/folder/r.json"
equal 'download into nothing' "$status" 1
check 'no part is left behind' test -z "$(find "$work" -name '*.part')"
run_onp list jobs --state succeeded
contains 'list jobs by state' "$status $out" "0 *$job"
run_onp cancel "$job"
equal 'a finished job is not cancelled' "$status" 1
run_onp result job_00000000000000000000000000
equal 'an unknown job' "$status" 1
slow=$("$onp" submit "$mdl" --samples "$smp" --set iterations=10000 --set masks_per_iteration=64 --set patience=0)
run_onp wait "$slow" --timeout 1
equal 'wait gives up in time' "$status" 1
run_onp result "$slow"
equal 'an unfinished job has no result' "$status" 1
run_onp cancel "$slow"
contains 'cancel' "$status $out" "0 $slow cancel"
run_onp watch "$slow"
contains 'watch of a cancelled job' "$status $err" '1 *cancelled'
unset ONP_SERVER
stop_onpd

# --- a token ---

printf 'secret-of-the-test\n' >"$work/token"
start_onpd "$work/token-data" --token-file "$work/token"
run_onp list --server "$url"
contains 'without the token' "$status $err" '1 *token'
equal 'in one line' "$(wc -l <"$work/err")" 1
run_onp list --server "$url" --token secret-of-the-test
equal 'with the token' "$status" 0
export ONP_SERVER="$url" ONP_TOKEN=secret-of-the-test
run_onp tokens create --name first --scopes read
contains 'the first token must be an admin' "$status $err" '1 *scope admin'
run_onp tokens create --name chief --scopes admin -q
run_onp tokens create --name "$(printf 'ci\033[31m')" --scopes read --days 1
contains 'tokens create prints the secret alone' "$status $(wc -w <"$work/out") $out" '0 1 onp_*'
reader=$out
ONP_TOKEN=$reader
run_onp list
equal 'which lets in' "$status" 0
run_onp cancel job_00000000000000000000000000
contains 'as far as its scopes go' "$status $err" '1 *scope*'
ONP_TOKEN=secret-of-the-test
run_onp tokens
contains 'tokens lists it, and its name does no harm' "$status $out" '0 *tok_*read*ci?*31m'
token_id=$(printf '%s\n' "$out" | sed -n 's/^\(tok_[0-9A-Z]*\).*31m.*/\1/p')
run_onp tokens revoke "$token_id" --json
equal 'tokens revoke' "$status $(jq -r '"\(.id) \(.revoked)"' "$work/out")" "0 $token_id true"
run_onp tokens creat
contains 'an unknown action names the nearest' "$status $err" '2 *create'
unset ONP_SERVER ONP_TOKEN
stop_onpd

# --- onp run, its private onpd ---

export TMPDIR="$work/tmp"
mkdir "$TMPDIR"
# A token of another server must not reach the private one.
# shellcheck disable=SC2086 # words
ONP_TOKEN=other run_onp run "$model" --samples "$clean" --probe "$probe" --seed 5 $fast_words -o "$work/run.onnx" \
    --report "$work/run.json" --fail-on 'accuracy_drop>1'
contains 'run repairs a model' "$status $out" '0 *attack success'
[ "$status" = 0 ] || printf '%s\n' "$err"
check 'its report is there' is_json "$work/run.json" '.schema == 1 and .seed == 5'
equal 'run gives the model that the server gave' "$(sha256sum <"$work/run.onnx")" "$(sha256sum <"$work/model.onnx")"
check 'its folder is gone' test -z "$(ls -A "$TMPDIR")"
run_onp run "$work/bad.onnx" --samples "$clean" -o "$work/bad-out.onnx"
contains 'run of a bad model' "$status $err" '1 *onp: *bad.onnx: failed'
check 'it writes nothing' test ! -e "$work/bad-out.onnx"
check 'and leaves nothing' test -z "$(ls -A "$TMPDIR")"

run_onp compare "$model" --samples "$clean" --probe "$probe" --methods evaluate,magic,clp --set clp.deviations=4 -q
contains 'compare goes on when a method fails, and says so' "$status $out" \
    '1 *evaluate *unjudged*magic *failed: *clp *'
run_onp compare "$model" --samples "$clean" --methods clp --set fp.epochs=1
contains 'compare asks whose a parameter is' "$status $err" '2 *METHOD.KEY=VALUE*'
check 'nothing is left of the private server' test -z "$(ls -A "$TMPDIR")"

"$onp" run "$model" --samples "$clean" --set iterations=10000 --set masks_per_iteration=64 --set patience=0 -o "$work/never.onnx" \
    >"$work/out" 2>"$work/err" </dev/null &
pid=$!
await 60 grep -qE 'expose|search|baseline' "$work/err"
kill -TERM "$pid"
wait "$pid"
contains 'a signal cancels the job of run' "$? $(cat "$work/err")" '1 *cancelling job*was cancelled'
check 'no model is written then' test ! -e "$work/never.onnx"
check 'and its folder is gone' test -z "$(ls -A "$TMPDIR")"
finish
