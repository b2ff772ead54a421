#!/bin/sh
# Load, measured against this machine's own limits: `make load`, or with PARTS="upload polls" some parts of it:
#   upload   1 GiB against cp, and the memory it takes      start    from submission to start
#   polls    status polls against libmicrohttpd alone       busy     status polls while two jobs compute
#   streams  1,000 idle event streams                       history  lists among 100,000 jobs
# A line a figure: its name, the value, the goal, met or not. Needs curl, jq, python3 and 5 GiB of disk; polls needs wrk and a compiler.
# Not part of `make test`: times belong to an idle machine.
set -u
. tests/e2e/support/lib.sh
parts=${PARTS:-upload start polls busy streams history}
bytes=$((${LOAD_MIB:-1024} * 1024 * 1024))
streams=${LOAD_STREAMS:-1000}
many=${LOAD_JOBS:-100000}
rounds=${LOAD_ROUNDS:-5}
ulimit -n 8192 2>/dev/null

# figure NAME VALUE [COMPARISON GOAL [COMPARED]]: COMPARED is what is held against the goal if VALUE holds several figures.
figure() {
    printf '%-58s %22s' "$1" "$2"
    if [ $# -gt 2 ]; then
        printf '   goal %-9s %s' "$3 $4" "$(awk -v v="${5-$2}" -v op="$3" -v g="$4" 'BEGIN {
            met = v == "" ? 0 : op == "<" ? v + 0 < g + 0 : v + 0 >= g + 0; print met ? "met" : "NOT MET" }')"
    fi
    printf '\n'
}

# of FILE PERCENT: a percentile in ms of seconds, one a line.
of() { sort -g "$1" | awk -v p="$2" '{ a[NR] = $1 } END { i = int(NR * p / 100 + 0.999); if (NR > 0) printf "%.2f", 1000 * a[i < 1 ? 1 : i] }'; }
percentiles() { printf '%s %s %s' "$(of "$1" 50)" "$(of "$1" 99)" "$(of "$1" 100)"; }
median() { sort -g "$1" | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.0f", 100 * a / b }'; }
memory_kb() { awk '/^VmRSS/ { print $2 }' "/proc/$onpd_pid/status"; }

# seconds COMMAND...: how long it takes.
seconds() {
    seconds_from=$(date +%s.%N)
    "$@" || echo "failed: $*" >&2
    date +%s.%N | awk -v a="$seconds_from" '{ print $1 - a }'
}

# polls_of URL-PATH COUNT FILE: seconds of each of COUNT requests over one connection.
polls_of() {
    awk -v n="$2" -v url="$url$1" -v body="$work/poll" 'BEGIN { for (i = 0; i < n; i++)
        printf "url = \"%s\"\noutput = \"%s\"\n", url, body }' >"$work/poll-list"
    curl -sS -K "$work/poll-list" -w '%{time_total}\n' >"$3"
}

# A daemon with a model and samples: sets model_id, samples_id.
start_ready() {
    forge
    start_onpd "$work/data-$1" --workers 2 --threads 1 --drain 0
    upload models "$model" && model_id=$id
    upload samples "$clean" && samples_id=$id
}

copy() { cp "$work/large" "$work/copy" && sync "$work/copy"; }
send() { curl -sS -o "$work/body" -T "$work/large" -X POST "$url/v1/models"; }

# Interleaved, medians; the body is refused after its bytes are stored, for it is no model.
part_upload() {
    start_onpd "$work/data-upload" --max-upload 8G --workers 2 --threads 1 --drain 0
    head -c "$bytes" /dev/zero | openssl enc -aes-128-ctr -K 00 -iv 00 2>/dev/null >"$work/large"
    memory_before=$(memory_kb)
    for _ in $(seq "$rounds"); do
        sync
        seconds copy >>"$work/cp-times"
        rm "$work/copy"
        sync
        (while sleep 0.1; do memory_kb; done >>"$work/peaks" 2>/dev/null) &
        sampler=$!
        seconds send >>"$work/upload-times"
        kill "$sampler" && wait "$sampler" 2>/dev/null
    done
    figure "cp and sync of $((bytes >> 20)) MiB, s" "$(median "$work/cp-times")"
    figure 'upload of the same, s' "$(median "$work/upload-times")"
    figure 'upload against cp, %' "$(ratio "$(median "$work/cp-times")" "$(median "$work/upload-times")")" '>=' 70
    figure 'growth of memory meanwhile, MB' \
        "$(sort -g "$work/peaks" | tail -n 1 | awk -v b="$memory_before" '{ printf "%.1f", ($1 - b) / 1000 }')" '<' 40
    rm -f "$work/large"
    stop_onpd
}

# From the event that a job is queued to the one that it runs, with an idle worker.
part_start() {
    start_ready start
    for i in 1 2 3 4 5 6 7 8 9; do
        submit "$slow_settings" "$i"
        wait_state "$job" running 60
        request POST "/v1/jobs/$job/cancel"
        wait_end "$job" 60
        request GET "/v1/jobs/$job/events?limit=50"
        jq -r '[.data[] | select(.type == "state")] | (map(select(.data.state == "running"))[0].time),
            (map(select(.data.state == "queued"))[0].time)' "$body" | python3 -c '
import datetime, sys
a, b = [datetime.datetime.fromisoformat(l.strip().replace("Z", "+00:00")) for l in sys.stdin]
print((a - b).total_seconds())' >>"$work/starts"
    done
    figure 'submit to running, ms: p50 p99 max' "$(percentiles "$work/starts")" '<' 50 "$(of "$work/starts" 50)"
    stop_onpd
}

rate() { wrk -t1 -c32 -d"${LOAD_SECONDS:-3}s" "$1" | sed -n 's/^Requests.sec: *//p'; }

# An answer of the same size from libmicrohttpd alone, one thread; taken in turns.
part_polls() {
    if ! command -v wrk >/dev/null 2>&1; then
        echo 'polls: wrk is not installed'
        return
    fi
    # shellcheck disable=SC2046 # flags are words
    ${CC:-cc} -O2 -o "$work/bare" tests/bench/http/bare.c $(pkg-config --cflags --libs libmicrohttpd) || return
    start_ready polls
    submit "$fast_settings" 1
    request POST "/v1/jobs/$job/cancel"
    wait_end "$job" 30
    mkfifo "$work/hold"
    "$work/bare" "$(curl -s "$url/v1/jobs/$job" | wc -c)" <"$work/hold" >"$work/port" &
    exec 9>"$work/hold"
    while [ ! -s "$work/port" ]; do sleep 0.05; done
    for _ in $(seq "$rounds"); do
        rate "http://127.0.0.1:$(cat "$work/port")/" >>"$work/bare-rates"
        rate "$url/v1/jobs/$job" >>"$work/poll-rates"
    done
    exec 9>&-
    figure 'libmicrohttpd alone, answers a second' "$(median "$work/bare-rates")"
    figure 'status polls a second' "$(median "$work/poll-rates")"
    paste -d' ' "$work/poll-rates" "$work/bare-rates" | awk '{ printf "%.0f\n", 100 * $1 / $2 }' >"$work/ratios"
    figure 'status polls against libmicrohttpd alone, %' "$(median "$work/ratios")" '>=' 60
    stop_onpd
}

# start_two NAME: two jobs that compute; sets one.
start_two() {
    start_ready "$1"
    submit "$slow_settings" 1 && one=$job
    submit "$slow_settings" 2 && two=$job
    wait_state "$one" running 60
    wait_state "$two" running 60
    sleep 3
}

part_busy() {
    start_two busy
    polls_of "/v1/jobs/$one" 2000 "$work/times"
    figure 'status poll while two jobs compute, ms: p50 p99 max' "$(percentiles "$work/times")" '<' 20 "$(of "$work/times" 99)"
    if command -v wrk >/dev/null 2>&1; then
        wrk -t1 -c16 -d5 --latency "$url/v1/jobs/$one" >"$work/wrk"
        figure 'the same from 16 connections, a second' "$(awk '/Requests\/sec/ { print $2 }' "$work/wrk")"
        figure 'the same, p99' "$(awk '$1 == "99%" { print $2 }' "$work/wrk")"
    fi
    stop_onpd
}

part_streams() {
    start_two streams
    memory_before=$(memory_kb)
    python3 - "$url" "$one" "$streams" "$work/streams-answered" <<'PYTHON' &
import socket, sys, time
host, port = sys.argv[1].split("//")[1].rsplit(":", 1)
open_sockets, answered = [], 0
for i in range(int(sys.argv[3])):
    s = socket.create_connection((host, int(port)), 30)
    s.sendall(f"GET /v1/jobs/{sys.argv[2]}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
    open_sockets.append(s)
for s in open_sockets:
    s.settimeout(30)
    answered += s.recv(64).startswith(b"HTTP/1.1 200")
print(answered, file=open(sys.argv[4], "w"), flush=True)
time.sleep(3600)
PYTHON
    reader=$!
    for _ in $(seq 600); do
        [ ! -s "$work/streams-answered" ] || break
        sleep 0.1
    done
    figure 'event streams that were answered' "$(cat "$work/streams-answered" 2>/dev/null)" '>=' "$streams"
    polls_of "/v1/jobs/$one" 500 "$work/times"
    figure 'status poll beside them, ms: p50 p99 max' "$(percentiles "$work/times")" '<' 20 "$(of "$work/times" 99)"
    figure 'memory they take, MB' "$(awk -v a="$(memory_kb)" -v b="$memory_before" 'BEGIN { printf "%.1f", (a - b) / 1000 }')"
    kill "$reader"
    wait "$reader" 2>/dev/null
    stop_onpd
}

part_history() {
    start_ready history
    submit "$fast_settings" 1
    wait_end "$job" 600
    stop_onpd
    python3 - "$work/data-history/onp.db" "$job" "$many" <<'PYTHON'
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
    start_onpd "$work/data-history" --workers 1 --threads 1 --drain 0
    for path in '/v1/jobs?limit=50' '/v1/jobs?limit=50&state=succeeded' '/v1/jobs?limit=50&state=failed' '/metrics' \
        '/v1/jobs?limit=200&after=job_01AAAAAAAAAAAAAA0000001000'; do
        polls_of "$path" 100 "$work/times"
        figure "$path among $many, ms: p50 p99 max" "$(percentiles "$work/times")" '<' 20 "$(of "$work/times" 50)"
    done
    stop_onpd
}

for part in $parts; do
    case $part in
    upload | start | polls | busy | streams | history) "part_$part" ;;
    *) echo "$part: expected upload, start, polls, busy, streams or history" >&2 && exit 2 ;;
    esac
done
finish
