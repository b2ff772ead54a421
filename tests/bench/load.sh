#!/bin/sh
# Load, measured against this machine's own limits: `make load`. Needs curl, jq, python3 and 5 GiB of disk; wrk is used if it is there.
# Prints one line a figure: its name, the value, the goal. Not part of `make test`: times belong to an idle machine.
set -u
. tests/e2e/support/lib.sh
bytes=$((${LOAD_MIB:-1024} * 1024 * 1024))
streams=${LOAD_STREAMS:-1000}
many=${LOAD_JOBS:-100000}
forge
ulimit -n 8192 2>/dev/null

figure() { printf '%-58s %14s   goal %s\n' "$1" "$2" "$3"; }

# percentiles FILE: of seconds, one a line, as "p50 p99 max" in ms.
percentiles() {
    sort -g "$1" | awk '{ a[NR] = $1 } END { printf "%.2f %.2f %.2f", 1000 * a[int((NR + 1) / 2)],
        1000 * a[int(NR * 0.99 + 0.999)], 1000 * a[NR] }'
}

# polls URL-PATH COUNT FILE: seconds of each of COUNT requests over one connection.
polls() {
    awk -v n="$2" -v url="$url$1" -v body="$work/poll" 'BEGIN { for (i = 0; i < n; i++)
        printf "url = \"%s\"\noutput = \"%s\"\n", url, body }' >"$work/polls"
    curl -sS -K "$work/polls" -w '%{time_total}\n' >"$3"
}

memory_kb() { awk '/^VmRSS/ { print $2 }' "/proc/$onpd_pid/status"; }

# --- an upload against cp, interleaved, medians of three; the body is refused after its bytes are stored, for it is no model ---

start_onpd "$work/data" --max-upload 8G --workers 2 --threads 1 --drain 0
head -c "$bytes" /dev/zero | openssl enc -aes-128-ctr -K 00 -iv 00 2>/dev/null >"$work/large"
memory_before=$(memory_kb)
: >"$work/peaks"
for _ in 1 2 3; do
    start=$(date +%s.%N)
    cp "$work/large" "$work/copy" && sync "$work/copy"
    end=$(date +%s.%N)
    awk -v a="$start" -v b="$end" 'BEGIN { print b - a }' >>"$work/cp-times"
    rm "$work/copy"
    (while sleep 0.1; do memory_kb; done >>"$work/peaks" 2>/dev/null) &
    sampler=$!
    start=$(date +%s.%N)
    curl -sS -o "$work/body" -T "$work/large" -X POST "$url/v1/models"
    end=$(date +%s.%N)
    kill "$sampler" && wait "$sampler" 2>/dev/null
    awk -v a="$start" -v b="$end" 'BEGIN { print b - a }' >>"$work/upload-times"
done
cp_time=$(sort -g "$work/cp-times" | sed -n 2p)
upload_time=$(sort -g "$work/upload-times" | sed -n 2p)
figure "cp and sync of $((bytes >> 20)) MiB, s" "$cp_time" -
figure 'upload of the same, s' "$upload_time" -
figure 'upload against cp, %' "$(awk -v c="$cp_time" -v u="$upload_time" 'BEGIN { printf "%.0f", 100 * c / u }')" '>= 70'
figure 'growth of memory meanwhile, MB' "$(sort -g "$work/peaks" | tail -n 1 | awk -v b="$memory_before" '{ printf "%.1f", ($1 - b) / 1000 }')" '< 40'
rm -f "$work/large"

# --- from submission to start, with an idle worker ---

upload models "$model"
model_id=$id
upload samples "$clean"
samples_id=$id
submit "$fast_settings" 1
done_job=$job
wait_end "$job" 600
for i in 1 2 3 4 5 6 7 8 9; do
    submit "$slow_settings" "$i"
    wait_state "$job" running 60
    request POST "/v1/jobs/$job/cancel"
    wait_end "$job" 60
    request GET "/v1/jobs/$job/events?limit=50"
    jq -r '[.data[] | select(.type == "state")] | (map(select(.data.state == "running"))[0].time), (map(select(.data.state == "queued"))[0].time)' \
        "$body" | python3 -c '
import datetime, sys
a, b = [datetime.datetime.fromisoformat(l.strip().replace("Z", "+00:00")) for l in sys.stdin]
print((a - b).total_seconds())' >>"$work/starts"
done
figure 'submit to running, ms: p50 p99 max' "$(percentiles "$work/starts")" 'p50 < 50'

# --- polls while two jobs compute ---

submit "$slow_settings" 1
one=$job
submit "$slow_settings" 2
two=$job
wait_state "$one" running 60
wait_state "$two" running 60
sleep 3
polls "/v1/jobs/$one" 2000 "$work/times"
figure 'status poll while two jobs compute, ms: p50 p99 max' "$(percentiles "$work/times")" 'p99 < 20'
if command -v wrk >/dev/null 2>&1; then
    wrk -t1 -c16 -d5 --latency "$url/v1/jobs/$one" >"$work/wrk"
    figure 'the same from 16 connections, a second' "$(awk '/Requests\/sec/ { print $2 }' "$work/wrk")" -
    figure 'the same, p99' "$(awk '$1 == "99%" { print $2 }' "$work/wrk")" -
fi

# --- idle streams ---

memory_before=$(memory_kb)
python3 - "$url" "$one" "$streams" "$work/streams" <<'PYTHON' &
import socket, sys, time
host, port = sys.argv[1].split("//")[1].rsplit(":", 1)
open_sockets, answered = [], 0
for i in range(int(sys.argv[3])):
    s = socket.create_connection((host, int(port)), 30)
    s.sendall(f"GET /v1/jobs/{sys.argv[2]}/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode())
    open_sockets.append(s)
for s in open_sockets:
    s.settimeout(30)
    answered += s.recv(64).startswith(b"HTTP/1.1 200")
print(answered, file=open(sys.argv[4], "w"), flush=True)
time.sleep(3600)
PYTHON
reader=$!
for _ in $(seq 600); do
    [ ! -s "$work/streams" ] || break
    sleep 0.1
done
figure 'event streams that were answered' "$(cat "$work/streams" 2>/dev/null || echo 0)" "$streams"
polls "/v1/jobs/$one" 500 "$work/times"
figure 'status poll beside them, ms: p50 p99 max' "$(percentiles "$work/times")" 'p99 < 20'
figure 'memory they take, MB' "$(awk -v a="$(memory_kb)" -v b="$memory_before" 'BEGIN { printf "%.1f", (a - b) / 1000 }')" -
kill "$reader"
wait "$reader" 2>/dev/null
stop_onpd

# --- a long history ---

python3 - "$work/data/onp.db" "$done_job" "$many" <<'PYTHON'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
columns = [row[1] for row in db.execute("PRAGMA table_info(jobs)")]
row = dict(zip(columns, db.execute("SELECT * FROM jobs WHERE id = ?", (sys.argv[2],)).fetchone()))
alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
def name(i):
    text = ""
    for _ in range(10):
        text, i = alphabet[i % 32] + text, i // 32
    return "job_01AAAAAAAAAAAAAA" + text
places = ", ".join("?" for _ in columns)
db.executemany(f"INSERT INTO jobs VALUES ({places})",
               ([name(i) if c == "id" else row[c] for c in columns] for i in range(int(sys.argv[3]))))
db.commit()
PYTHON
start_onpd "$work/data" --workers 1 --threads 1 --drain 0
for path in '/v1/jobs?limit=50' '/v1/jobs?limit=50&state=succeeded' '/v1/jobs?limit=50&state=failed' '/metrics' \
    '/v1/jobs?limit=200&after=job_01AAAAAAAAAAAAAA0000001000'; do
    polls "$path" 100 "$work/times"
    figure "$path among $many jobs, ms: p50 p99 max" "$(percentiles "$work/times")" '< 20'
done
finish
