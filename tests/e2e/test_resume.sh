#!/bin/sh
# The client on a bad line: connections cut in uploads, downloads and submissions by a proxy, and a daemon that is killed meanwhile.
set -u
. tests/e2e/support/lib.sh
if ! command -v python3 >/dev/null 2>&1; then
    echo 'skip - the client on a bad line: python3 is not installed'
    exit 0
fi
proxy_pid=
end_proxy() {
    [ -z "$proxy_pid" ] || kill "$proxy_pid" 2>/dev/null
    proxy_pid=
}
trap 'end_proxy; clean_up' EXIT

# proxy PLAN: breaks connections by the plan; sets ONP_SERVER to the proxy.
proxy() {
    end_proxy
    printf '%s\n' "$1" >"$work/plan"
    rm -f "$work/proxy"
    python3 tests/e2e/support/cutting_proxy.py "$work/plan" "$work/proxy" "$work/target" >"$work/cuts" 2>"$work/proxy.log" &
    proxy_pid=$!
    await 60 test -s "$work/proxy"
    ONP_SERVER=http://127.0.0.1:$(cat "$work/proxy")
    export ONP_SERVER
}

# run_onp WORDS...: sets status, out, err.
run_onp() {
    timeout -k 5 "$limit" "$onp" "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    out=$(cat "$work/out")
    err=$(cat "$work/err")
}

begin_onpd() {
    start_onpd "$work/data" --drain 1
    echo "${url##*:}" >"$work/target"
}

# How many there are of jobs, models, samples.
count() {
    request GET "/v1/$1?limit=200"
    json '.data | length'
}

forge
begin_onpd

# --- uploads ---

proxy 'POST answer
HEAD answer
PATCH up 50000
PATCH up 60000
PATCH answer
/complete answer'
run_onp upload "$model" --json
equal 'an upload goes on through six cuts' "$status $(wc -l <"$work/cuts") $(jq -r .sha256 "$work/out")" \
    "0 6 $(sha256sum <"$model" | cut -d ' ' -f 1)"
[ "$status" = 0 ] || cat "$work/err" "$work/cuts"
equal 'and makes one model' "$(count models)" 1
model_id=$(jq -r .id "$work/out")
check 'no piece is left on the server' test -z "$(find "$work/data/uploads" -type f)"

# A daemon that is killed in the middle, and comes back; the client knows nothing of it.
proxy 'PATCH up 900000
HEAD answer'
(
    await 60 test -s "$work/cuts"
    kill -9 "$onpd_pid"
) &
killer=$!
"$onp" upload "$clean" --json >"$work/out" 2>"$work/err" </dev/null &
client=$!
wait "$killer"
wait "$onpd_pid" 2>/dev/null
begin_onpd
wait "$client"
equal 'an upload goes on with a daemon that was killed' "$? $(jq -r .sha256 "$work/out")" "0 $(sha256sum <"$clean" | cut -d ' ' -f 1)"
samples_id=$(jq -r .id "$work/out")

# A client that is killed: the next one goes on from what the server has.
proxy 'PATCH up 1500000
HEAD answer'
"$onp" upload "$probe" >"$work/out" 2>"$work/err" </dev/null &
client=$!
await 60 test -s "$work/cuts"
kill -9 "$client"
wait "$client" 2>/dev/null
end_proxy
is_kept() {
    kept=$(stat -c %s "$work/data/uploads/"upl_* 2>/dev/null)
    [ "${kept:-0}" -gt 1000000 ]
}
await 60 is_kept
check 'the server keeps what came' test "${kept:-0}" -gt 1000000
proxy 'PATCH up 1500000'
run_onp upload "$probe" --json
equal 'another client goes on from there' "$status $(wc -l <"$work/cuts") $(jq -r .sha256 "$work/out")" \
    "0 0 $(sha256sum <"$probe" | cut -d ' ' -f 1)"

# --- a submission whose answer is lost ---

proxy '/v1/jobs answer
/v1/jobs answer'
# shellcheck disable=SC2086 # words
run_onp submit "$model_id" --samples "$samples_id" --key build-17 $fast_words
contains 'a submission whose answer is lost, twice' "$status $out $(wc -l <"$work/cuts")" '0 job_* 2'
job=$out
equal 'makes one job' "$(count jobs)" 1
# shellcheck disable=SC2086 # words
equal 'and so does another with the same key' \
    "$("$onp" submit "$model_id" --samples "$samples_id" --key build-17 $fast_words) $(count jobs)" "$job 1"
run_onp submit "$model_id" --samples "$samples_id" --key build-17 --seed 9
contains 'the key of another submission is refused' "$status $err" '1 *Idempotency-Key*'

# --- waiting, and downloads ---

proxy '/v1/jobs/ answer
wait= answer
wait= up 10'
run_onp wait "$job" --timeout $((limit - 10)) -q
equal 'a wait goes on through cuts' "$status $(wc -l <"$work/cuts")" '0 3'
sha=$(model_sha "$job")
proxy 'artifacts/model.onnx down 50000
Range: down 60000
artifacts/model.onnx answer'
run_onp download "$job" -o "$work/repaired.onnx" --json
equal 'a download goes on through cuts' "$status $(wc -l <"$work/cuts") $(jq -r .sha256 "$work/out") $(sha256sum <"$work/repaired.onnx")" \
    "0 3 $sha $sha  -"
check 'and leaves no part' test ! -e "$work/repaired.onnx.part"
head -c 70000 "$work/repaired.onnx" >"$work/again.onnx.part"
proxy 'bytes=70000- down 40000'
run_onp download "$job" -o "$work/again.onnx"
equal 'a download goes on from the part of an earlier one' "$status $(wc -l <"$work/cuts") $(sha256sum <"$work/again.onnx")" "0 1 $sha  -"
head -c 70000 /dev/zero >"$work/wrong.onnx.part"
run_onp download "$job" -o "$work/wrong.onnx"
equal 'a part of something else is thrown away' "$status $(sha256sum <"$work/wrong.onnx")" "0 $sha  -"
proxy 'artifacts/model.onnx down 50000'
"$onp" download "$job" -o - 2>"$work/err" | cat >"$work/piped.onnx"
equal 'and so does one to a pipe' "$(sha256sum <"$work/piped.onnx")" "$sha  -"
end_proxy
finish
