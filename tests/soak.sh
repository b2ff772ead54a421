#!/bin/sh
# make soak SECONDS=3600: mixed load on one onpd: uploads whole and in pieces, jobs, cancels, deletions, bad input, readers of events
# that vanish. Never more jobs wait than BACKLOG, so that what is left at the end is what is stuck and not what was too much. Memory and
# descriptors may not grow after the warm-up (a fifth of the time), no process or file may be left, and the database must be whole.
. tests/e2e/support/lib.sh
seconds=${SECONDS_OF_SOAK:-60}
backlog=${BACKLOG:-4}
# How long nothing may end while something is unfinished; a slow machine has what it needs.
patience=${PATIENCE:-300}
forge
cases=$(ls -d tests/data/onnx_bad/*/model.onnx tests/data/npz_bad/*/samples.npz tests/data/zip_bad/*/samples.zip)
start_onpd "$work/data" --log-level warn --workers 2 --threads 1 --check-timeout 600
series=$work/series

memory() { awk '/^VmRSS/ { print $2 }' "/proc/$onpd_pid/status"; }
descriptors() { ls "/proc/$onpd_pid/fd" | wc -l; }
# Jobs in the states of $1 (a regular expression).
jobs_in() { curl -s "$url/metrics" | awk -v states="state=\"($1)\"" '/^onpd_jobs\{/ && $0 ~ states { n += $2 } END { print n + 0 }'; }
unfinished() { jobs_in 'queued|starting|running|cancelling|interrupted'; }
finished() { jobs_in 'succeeded|failed|cancelled'; }
submit_job() {
    curl -s -X POST -H 'Content-Type: application/json' -d "{\"model_id\":\"$model_id\",\"samples_id\":\"$samples_id\",
        \"parameters\":$1,\"seed\":$2}" "$url/v1/jobs" | jq -r '.id // empty'
}
# Until at most $1 jobs are unfinished; fails if none ended for as long as the patience lasts. Deleted jobs count by the metric of ends.
wait_for_jobs() {
    ended=$(finished)
    since=$(date +%s)
    while [ "$(unfinished)" -gt "$1" ]; do
        now=$(finished)
        if [ "$now" != "$ended" ]; then
            ended=$now
            since=$(date +%s)
        fi
        [ $(($(date +%s) - since)) -lt "$patience" ] || return 1
        sleep 1
    done
}
# The model with a comment: a new file each time, by field 6 (doc_string) of ModelProto.
other_model() {
    text=$(printf 'round %08d' "$1")
    { cat "$forged/model.onnx" && printf '2\016%s' "$text"; } >"$work/other.onnx"
}
# In two pieces; the answer is the id of the model.
upload_in_pieces() {
    size=$(wc -c <"$1")
    place=$(curl -s -o /dev/null -D - -X POST -H 'Tus-Resumable: 1.0.0' -H "Upload-Length: $size" -H 'Upload-Metadata: kind bW9kZWw=' \
        "$url/v1/uploads" | tr -d '\r' | awk 'tolower($1) == "location:" { print $2 }')
    place=${place#"$url"}
    for offset in 0 $((size / 2)); do
        to=$((offset == 0 ? size / 2 : size))
        tail -c +$((offset + 1)) "$1" | head -c $((to - offset)) | curl -s -o /dev/null -X PATCH -H 'Tus-Resumable: 1.0.0' \
            -H "Upload-Offset: $offset" -H 'Content-Type: application/offset+octet-stream' --data-binary @- "$url$place"
    done
    curl -s -X POST "$url$place/complete" | jq -r '.id // empty'
}

model_id=$(curl -s --data-binary "@$forged/model.onnx" "$url/v1/models" | jq -r .id)
samples_id=$(curl -s --data-binary "@$forged/clean.npz" "$url/v1/samples" | jq -r .id)
idle_descriptors=$(descriptors)
start=$(date +%s)
end=$((start + seconds))
round=0 uploads=0 jobs=0 cancels=0 deletes=0 bad=0 misjudged=0 refused=0 stalled=0
fast=
while [ "$(date +%s)" -lt "$end" ] && kill -0 "$onpd_pid" 2>/dev/null; do
    round=$((round + 1))
    # The same bytes again: known ones are answered as such. Then new ones, which are deleted.
    id=$(curl -s --data-binary "@$forged/clean.npz" "$url/v1/samples?name=round$round" | jq -r '.id // empty')
    [ "$id" != "$samples_id" ] || uploads=$((uploads + 1))
    other_model "$round"
    id=$(upload_in_pieces "$work/other.onnx")
    [ -z "$id" ] || uploads=$((uploads + 1))
    [ "$(curl -s -o /dev/null -w '%{http_code}' -X DELETE "$url/v1/models/$id")" != 204 ] || deletes=$((deletes + 1))
    # Bad input: a handful of the cases of the tree.
    for case in $(printf '%s\n' $cases | awk -v n="$round" 'NR % 60 == n % 60'); do
        case $case in *.onnx) to=models ;; *) to=samples ;; esac
        code=$(curl -s -m 900 -o "$work/answer" -w '%{http_code}' --data-binary "@$case" "$url/v1/$to")
        bad=$((bad + 1))
        case $code in
        4??) ;;
        *)
            misjudged=$((misjudged + 1))
            printf '%s: %s %s\n' "$case" "$code" "$(head -c 300 "$work/answer")" >>"$work/misjudged"
            ;;
        esac
    done
    # The last fast job is deleted once it is over; some are cancelled at any stage.
    if [ -n "$fast" ]; then
        [ $((round % 3)) -ne 0 ] || { curl -s -X POST "$url/v1/jobs/$fast/cancel" >/dev/null && cancels=$((cancels + 1)); }
        curl -s -m 25 "$url/v1/jobs/$fast?wait=20" >/dev/null
        [ "$(curl -s -o /dev/null -w '%{http_code}' -X DELETE "$url/v1/jobs/$fast")" != 204 ] || deletes=$((deletes + 1))
    fi
    wait_for_jobs $((backlog - 2)) || { stalled=1 && break; }
    # A fast job, and a slow one that is cancelled; readers of its events that vanish.
    fast=$(submit_job "$fast_settings" "$round")
    slow=$(submit_job "$slow_settings" "$round")
    for id in "$fast" "$slow"; do
        if [ -n "$id" ]; then jobs=$((jobs + 1)); else refused=$((refused + 1)); fi
    done
    for reader in 1 2 3; do
        curl -s -N -m "$reader" -H 'Accept: text/event-stream' "$url/v1/jobs/$slow/events" >/dev/null 2>&1 &
    done
    sleep $((round % 5))
    [ "$(curl -s -o /dev/null -w '%{http_code}' -X POST "$url/v1/jobs/$slow/cancel")" != 202 ] || cancels=$((cancels + 1))
    printf '%s %s %s\n' "$(($(date +%s) - start))" "$(memory)" "$(descriptors)" >>"$series"
done

check 'the server lives' kill -0 "$onpd_pid"
check 'jobs went on all the time' test "$stalled" -eq 0
wait_for_jobs 0
equal 'no job is stuck' "$(unfinished)" 0
equal 'no job failed' "$(jobs_in failed)" 0
equal 'every job was taken' "$refused" 0
equal 'bad input was answered as such' "$misjudged" 0
[ "$misjudged" -eq 0 ] || head -n 20 "$work/misjudged"
equal 'no child is left' "$(onpd_children | wc -l)" 0
# Least squares after the warm-up, in kB an hour; what was left at the end against the first that was seen after it.
slope=$(awk -v from=$((seconds / 5)) '$1 >= from { n++; x += $1; y += $2; xx += $1 * $1; xy += $1 * $2 }
    END { d = n * xx - x * x; printf("%.0f", (n > 2 && d > 0) ? 3600 * (n * xy - x * y) / d : 0) }' "$series")
grown=$(awk -v from=$((seconds / 5)) '$1 >= from { if (!n++) first = $2; last = $2 } END { print last - first }' "$series")
printf '%s s: %s rounds, %s uploads, %s jobs, %s cancels, %s deletions, %s bad inputs\n' \
    "$seconds" "$round" "$uploads" "$jobs" "$cancels" "$deletes" "$bad"
printf 'memory: %s kB at the end, %s kB since the warm-up, slope %s kB/h; descriptors: %s before, %s after\n' \
    "$(memory)" "$grown" "$slope" "$idle_descriptors" "$(descriptors)"
awk '{ at[NR] = $0 } END { for (i = 0; i <= 10; i++) { split(at[int(1 + i * (NR - 1) / 10)], s); printf("  %5d s %7d kB %3d descriptors\n", s[1], s[2], s[3]) } }' "$series"
check 'memory does not grow' test "$grown" -lt 8192
check 'descriptors do not grow' test "$(descriptors)" -le $((idle_descriptors + 4))
equal 'no file of an upload is left' "$(find "$work/data/tmp" -type f | wc -l)" 0
stop_onpd
equal 'it ends in order' "$onpd_status" 0
if command -v sqlite3 >/dev/null 2>&1; then
    equal 'the database is whole' "$(sqlite3 "$work/data/onp.db" 'PRAGMA integrity_check')" ok
else
    equal 'the database is whole' "$(python3 -c "import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone()[0])" "$work/data/onp.db")" ok
fi
finish
