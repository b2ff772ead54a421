#!/bin/sh
# kill -9 of onpd and of its children at random points, under uploads and running jobs: nothing accepted is lost, nothing is done
# twice, no partial blob is seen, and the results are those of an undisturbed run. KILL_POINTS (3; `make test-kill`: 20) and
# KILL_SEED choose the points.
set -u
. tests/e2e/support/lib.sh
points=${KILL_POINTS:-3}
seed=${KILL_SEED:-1}
jobs=$((1 + points / 4))
settings='{"expose_steps":4,"expose_rungs":2,"expose_batch":32,"restarts":0,"iterations":3,"masks_per_iteration":4,"adversary_rounds":0,
    "random_baseline":false}'
forge

# What two runs of the same job must agree in.
essence() {
    request GET "/v1/jobs/$1/result"
    jq -S 'del(.seconds, .provenance.peak_memory_bytes)' "$body" | sha256sum | cut -d ' ' -f 1
    model_sha "$1"
}

# --- undisturbed ---

start_onpd "$work/calm" --workers 1 --threads 1
upload models "$model"
model_id=$id
upload samples "$clean"
samples_id=$id
for i in $(seq "$jobs"); do
    submit "$settings" "$i"
    echo "$job" >>"$work/calm-jobs"
done
while read -r job; do
    wait_end "$job" 900
    equal "an undisturbed job finishes" "$state" succeeded
    essence "$job" >>"$work/calm-results"
done <"$work/calm-jobs"
stop_onpd

# --- disturbed ---

start_again() {
    start_onpd "$work/data" --workers 2 --threads 1 --max-attempts 1000 --drain 0
    echo "$url" >"$work/url"
}

# variant N: a model that differs from the others by an entry of its metadata, appended as protobuf allows.
variant() {
    cp "$model" "$work/variant-$1.onnx"
    printf 'r\014\012\003num\022\005%05d' "$1" >>"$work/variant-$1.onnx"
}

# Uploads one model after the other; each is tried until it is acknowledged.
uploader() {
    number=0
    while [ ! -e "$work/enough" ]; do
        number=$((number + 1))
        variant "$number"
        until answer=$(curl -sS -m "$limit" --data-binary "@$work/variant-$number.onnx" "$(cat "$work/url")/v1/models" 2>/dev/null) &&
            uploaded=$(printf '%s' "$answer" | jq -er .id 2>/dev/null); do
            [ ! -e "$work/enough" ] || return
            sleep 0.1
        done
        echo "$uploaded $(sha256sum <"$work/variant-$number.onnx" | cut -d ' ' -f 1)" >>"$work/acknowledged"
        rm "$work/variant-$number.onnx"
    done
}

start_again
upload models "$model"
model_id=$id
upload samples "$clean"
samples_id=$id
for i in $(seq "$jobs"); do
    submit "$settings" "$i"
    equal "job $i is accepted" "$code" 202
    echo "$job" >>"$work/jobs"
done
touch "$work/acknowledged"
uploader &
uploader_pid=$!
awk -v n="$points" -v seed="$seed" 'BEGIN { srand(seed); for (i = 0; i < n; i++)
    printf "%.3f %s\n", 0.2 + 2.3 * rand(), rand() < 0.6 ? "onpd" : "child" }' >"$work/points"
daemons=0
children=0
has_checkpoint() {
    [ -n "$(find "$work/data/attempts" -name checkpoint 2>/dev/null | head -n 1)" ]
}
while read -r pause target; do
    # The first point is one from which a job can go on; the others are any.
    if [ "$daemons$children" = 00 ]; then
        await 120 has_checkpoint
    else
        sleep "$pause"
    fi
    victim=$onpd_pid
    if [ "$target" = child ]; then
        victim=$(onpd_children | head -n 1)
        victim=${victim:-$onpd_pid}
    fi
    kill -9 "$victim" 2>/dev/null
    if [ "$victim" = "$onpd_pid" ]; then
        daemons=$((daemons + 1))
        wait "$onpd_pid" 2>/dev/null
        start_again
    else
        children=$((children + 1))
    fi
done <"$work/points"
echo "# killed: $daemons times onpd, $children times a child"
touch "$work/enough"
wait "$uploader_pid"

# --- what is left ---

while read -r job; do
    wait_end "$job" 900
    equal "job $job finishes" "$state" succeeded
    essence "$job" >>"$work/results"
    request GET "/v1/jobs/$job/events?limit=200"
    equal 'it has succeeded once' "$(json '[.data[] | select(.data.state? == "succeeded")] | length')" 1
done <"$work/jobs"
check 'all results are those of the undisturbed run' cmp -s "$work/calm-results" "$work/results"
request GET '/v1/jobs?limit=200'
equal 'there are as many jobs as were accepted' "$(json '.data | length')" "$jobs"

lost=0
while read -r id sha; do
    [ "$(curl -sS -m "$limit" "$url/v1/models/$id/content" | sha256sum | cut -d ' ' -f 1)" = "$sha" ] || lost=$((lost + 1))
done <"$work/acknowledged"
equal "none of $(wc -l <"$work/acknowledged") acknowledged uploads is lost or damaged" "$lost" 0
check 'some were acknowledged' test -s "$work/acknowledged"

# After a last start nothing is left of what was cut off.
stop_onpd
start_again
bad=$(find "$work/data/blobs" -type f | while read -r file; do
    [ "$(sha256sum <"$file" | cut -d ' ' -f 1)" = "${file##*/}" ] || echo "$file"
done)
equal 'every blob is what its name says' "$bad" ''
equal 'no half upload, attempt or checkpoint is left' \
    "$(find "$work/data/tmp" "$work/data/attempts" "$work/data/checkpoints" -mindepth 1 | wc -l)" 0
check 'jobs went on from their checkpoints' grep -q '"event":"job_resumed"' "$work/onpd.log"
finish
