#!/bin/sh
# make test-hostile: COUNT generated bad inputs (default 10000) from SEED (default 1) against a live onpd, which must answer each,
# keep its process, its memory and its descriptors, and still do its work afterwards. Prints "ok - ..." as other tests.
. tests/e2e/support/lib.sh
count=${COUNT:-10000}
seed=${SEED:-1}

memory() { awk '/^VmRSS/ { print $2 }' "/proc/$onpd_pid/status"; }
descriptors() { ls "/proc/$onpd_pid/fd" | wc -l; }
metric() { curl -s "$url/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }

# The crowd of connections needs descriptors; the most that are allowed, if they are fewer.
ulimit -n 11000 2>/dev/null || ulimit -n "$(ulimit -Hn)"
# Small limits make the edge near; sanitizers need room of their own.
start_onpd "$work/data" --check-memory 2G --max-upload 16M --log-level warn
pid=$onpd_pid
curl -s "$url/healthz" >/dev/null
memory_before=$(memory)
descriptors_before=$(descriptors)
if "$build/tests/hostile/hostile" "${url##*:}" "$seed" "$count" tests/data/onnx_good/*/model.onnx \
    tests/data/zip_bad/two_sizes/samples.zip tests/data/zip_bad/crc_wrong/samples.zip >"$work/report" 2>&1; then
    ok "every case of seed $seed was answered"
else
    not_ok "every case of seed $seed was answered" "$(cat "$work/report")"
fi
tail -n 3 "$work/report"
sleep 1
check 'the process is the same' kill -0 "$pid"
equal 'it is healthy' "$(curl -s -o /dev/null -w '%{http_code}' "$url/healthz")" 200
# Halves of requests are still waited for, until their time is over.
tries=0
while [ "$(descriptors)" -gt $((descriptors_before + 8)) ] && [ "$tries" -lt 150 ]; do
    tries=$((tries + 1))
    sleep 1
done
memory_after=$(memory)
printf 'waited %s s; memory: %s kB before, %s kB after; descriptors: %s before, %s after\n' "$tries" "$memory_before" "$memory_after" \
    "$descriptors_before" "$(descriptors)"
# Allocators keep some of what they got, the sanitizer's more than others.
allowed=$((memory_before * 2 + 65536))
[ -z "${ASAN_ROOM-}" ] || allowed=$((allowed + ASAN_ROOM))
check 'its memory is bounded' test "$memory_after" -le "$allowed"
check 'its descriptors are closed' test "$(descriptors)" -le $((descriptors_before + 8))
equal 'no child broke out' "$(metric onpd_sandbox_breaches_total)" 0
equal 'no child babbled' "$(metric onpd_children_babbled_total)" 0
equal 'no child was lost' "$(metric onpd_children_lost_total)" 0
stop_onpd
equal 'it ends in order' "$onpd_status" 0
start_onpd "$work/data" --log-level warn
equal 'what was accepted is still there after a restart' \
    "$(curl -s "$url/v1/models?limit=1" | jq -r '.data[0].object')" model
finish
