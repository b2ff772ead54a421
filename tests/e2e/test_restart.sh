#!/bin/sh
# What is promised to be there after a crash is there: onpd is killed while a job runs, and the job finishes all the same.
set -u
. tests/e2e/support/lib.sh
forge

# Long enough to be killed in, short enough to be run thrice.
settings='{"expose_steps":6,"expose_rungs":2,"expose_batch":32,"restarts":0,"iterations":6,"masks_per_iteration":8,"adversary_rounds":0,
    "random_baseline":false}'

# Whether the job shows progress, or is over.
shows_progress() {
    request GET "/v1/jobs/$1"
    progress=$(json '.state + " " + ((.progress.fraction // 0) > 0 | tostring)')
    case $progress in 'running true' | succeeded* | failed*) return 0 ;; esac
    return 1
}

# Until the job shows progress and is not over.
wait_progress() {
    await 60 shows_progress "$1" && [ "$progress" = 'running true' ]
}

# Whether none of the children lives. A zombie has ended; only its parent is late.
none_lives() {
    left=0
    for child in $children; do
        case $(sed 's/.*) //' "/proc/$child/stat" 2>/dev/null) in '' | Z*) ;; *) left=$((left + 1)) ;; esac
    done
    [ "$left" -eq 0 ]
}

kill_onpd() {
    kill -9 "$onpd_pid"
    wait "$onpd_pid" 2>/dev/null
    onpd_pid=
}

start_onpd "$work/data" --unix "$work/sock"
upload models "$model"
model_id=$id
upload samples "$clean"
samples_id=$id

# --- kill -9 of onpd ---

submit "$settings" 3
killed=$job
submit "$settings" 3
queued=$job
check 'a job makes progress' wait_progress "$killed"
children=$(onpd_children)
check 'it runs in a child' test -n "$children"
"$onp" watch "$killed" --server "unix:$work/sock" >"$work/watch" 2>&1 </dev/null &
watcher=$!
sleep 0.3
kill_onpd
await 60 none_lives
equal 'no child outlives a killed onpd' "$left" 0
start_onpd "$work/data" --unix "$work/sock" --drain 1
request GET "/v1/jobs/$killed"
equal 'the job is still known' "$code" 200
wait_end "$killed" 600
equal 'the job finishes after the restart' "$state" succeeded
check 'in a second attempt' test "$(json .attempt)" -ge 2
wait "$watcher"
equal 'onp watch followed it through the restart' "$? $(tail -n 1 "$work/watch" | cut -d ' ' -f 2)" '0 succeeded'
wait_end "$queued" 600
equal 'a queued job is not lost' "$state" succeeded
equal 'both give the same model' "$(model_sha "$killed")" "$(model_sha "$queued")"

# --- kill -9 of the child ---

submit "$settings" 4
check 'a third job makes progress' wait_progress "$job"
for child in $(onpd_children); do
    kill -9 "$child" 2>/dev/null
done
wait_end "$job" 600
equal 'a job whose child was killed finishes' "$state" succeeded
check 'in another attempt' test "$(json .attempt)" -ge 2
request GET /healthz
equal 'onpd lives on' "$code" 200

# --- an orderly stop while a job runs ---

submit "$slow_settings" 1
check 'a slow job starts' wait_state "$job" running 300
kill "$onpd_pid"
wait "$onpd_pid"
equal 'SIGTERM ends onpd in order' "$?" 0
onpd_pid=
start_onpd "$work/data" --drain 0
wait_state "$job" 'starting running' 300
check 'the job runs again' test "$state" = starting -o "$state" = running
request POST "/v1/jobs/$job/cancel"
wait_end "$job" 600
equal 'and can be cancelled' "$state" cancelled

# --- uploads and results are still there ---

request GET "/v1/models/$model_id/content"
check 'the model is the one that was uploaded' cmp -s "$body" "$model"
request GET "/v1/jobs/$killed/result"
equal 'the result is still there' "$code" 200
finish
