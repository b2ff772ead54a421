#!/bin/sh
# make soak SECONDS=3600: mixed load on one onpd: uploads, jobs, cancels, bad input, readers of events that vanish. Afterwards no job
# may be stuck, memory and descriptors must not have grown after the warm-up (a fifth of the time), and the database must be whole.
. tests/e2e/support/lib.sh
seconds=${SECONDS_OF_SOAK:-60}
forge
cases=$(ls -d tests/data/onnx_bad/*/model.onnx tests/data/npz_bad/*/samples.npz tests/data/zip_bad/*/samples.zip)
start_onpd "$work/data" --log-level warn --workers 2 --threads 1
series=$work/series

memory() { awk '/^VmRSS/ { print $2 }' "/proc/$onpd_pid/status"; }
descriptors() { ls "/proc/$onpd_pid/fd" | wc -l; }
submit() {
    curl -s -X POST -H 'Content-Type: application/json' -d "{\"model_id\":\"$model_id\",\"samples_id\":\"$samples_id\",
        \"parameters\":$1,\"seed\":$2}" "$url/v1/jobs" | jq -r '.id // empty'
}

model_id=$(curl -s --data-binary "@$forged/model.onnx" "$url/v1/models" | jq -r .id)
samples_id=$(curl -s --data-binary "@$forged/clean.npz" "$url/v1/samples" | jq -r .id)
start=$(date +%s)
end=$((start + seconds))
round=0
uploads=0
jobs=0
cancels=0
bad=0
unanswered=0
while [ "$(date +%s)" -lt "$end" ]; do
    round=$((round + 1))
    # The same bytes again: known ones are answered as such.
    id=$(curl -s --data-binary "@$forged/clean.npz" "$url/v1/samples?name=round$round" | jq -r '.id // empty')
    [ -n "$id" ] && uploads=$((uploads + 1))
    # Bad input: a handful of the cases of the tree.
    for case in $(printf '%s\n' $cases | awk -v n="$round" 'NR % 60 == n % 60'); do
        case $case in *.onnx) to=models ;; *) to=samples ;; esac
        code=$(curl -s -m 60 -o /dev/null -w '%{http_code}' --data-binary "@$case" "$url/v1/$to")
        bad=$((bad + 1))
        case $code in 4??) ;; *) unanswered=$((unanswered + 1)) ;; esac
    done
    # A fast job, and a slow one that is cancelled; readers of its events that vanish.
    fast=$(submit "$fast_settings" "$round")
    slow=$(submit "$slow_settings" "$round")
    jobs=$((jobs + 2))
    for reader in 1 2 3; do
        curl -s -N -m 1 -H 'Accept: text/event-stream' "$url/v1/jobs/$slow/events" >/dev/null 2>&1 &
    done
    sleep 1
    curl -s -X POST "$url/v1/jobs/$slow/cancel" >/dev/null && cancels=$((cancels + 1))
    curl -s -m 25 "$url/v1/jobs/$fast?wait=20" >/dev/null
    [ $((round % 3)) -ne 0 ] || curl -s -X POST "$url/v1/jobs/$fast/cancel" >/dev/null
    printf '%s %s %s\n' "$(($(date +%s) - start))" "$(memory)" "$(descriptors)" >>"$series"
    kill -0 "$onpd_pid" 2>/dev/null || break
done

check 'the server lives' kill -0 "$onpd_pid"
# Whatever still runs may end.
tries=0
while [ "$(curl -s "$url/metrics" | awk '/^onpd_jobs\{state="(queued|starting|running|cancelling|interrupted)"/ { n += $2 } END { print n + 0 }')" -gt 0 ] &&
    [ "$tries" -lt 300 ]; do
    tries=$((tries + 1))
    sleep 1
done
equal 'no job is stuck' "$(curl -s "$url/metrics" | awk '/^onpd_jobs\{state="(queued|starting|running|cancelling|interrupted)"/ { n += $2 } END { print n + 0 }')" 0
equal 'no job failed' "$(curl -s "$url/metrics" | awk '/^onpd_jobs\{state="failed"/ { n += $2 } END { print n + 0 }')" 0
equal 'bad input was answered as such' "$unanswered" 0
# Least squares after the warm-up, in kB an hour.
slope=$(awk -v from=$((seconds / 5)) '$1 >= from { n++; x += $1; y += $2; xx += $1 * $1; xy += $1 * $2 }
    END { d = n * xx - x * x; printf "%.0f", n > 2 && d > 0 ? 3600 * (n * xy - x * y) / d : 0 }' "$series")
grown=$(awk -v from=$((seconds / 5)) '$1 >= from { if (!n++) first = $2; last = $2 } END { print last - first }' "$series")
printf '%s s: %s rounds, %s uploads, %s jobs, %s cancels, %s bad inputs; memory %s kB at the end, %s kB since the warm-up, slope %s kB/h\n' \
    "$seconds" "$round" "$uploads" "$jobs" "$cancels" "$bad" "$(memory)" "$grown" "$slope"
check 'memory does not grow' test "$grown" -lt 8192
check 'descriptors do not grow' awk '{ if (NR == 2) first = $3; last = $3 } END { exit !(last <= first + 8) }' "$series"
stop_onpd
equal 'it ends in order' "$onpd_status" 0
if command -v sqlite3 >/dev/null 2>&1; then
    equal 'the database is whole' "$(sqlite3 "$work/data/onp.db" 'PRAGMA integrity_check')" ok
else
    equal 'the database is whole' "$(python3 -c "import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone()[0])" "$work/data/onp.db")" ok
fi
finish
