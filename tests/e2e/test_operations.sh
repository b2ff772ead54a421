#!/bin/sh
# What operators do: TLS and its renewal, signals, systemd, metrics, backup and restore, the end of old things.
set -u
. tests/e2e/support/lib.sh
forge

# certificate NAME: a key and a self-signed certificate for 127.0.0.1.
certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" \
        -addext 'subjectAltName=IP:127.0.0.1' -keyout "$work/$1.key" -out "$work/$1.pem" 2>/dev/null
}

# subject: of the certificate that a new connection gets.
subject() {
    echo | openssl s_client -connect "${url#https://}" 2>/dev/null | openssl x509 -noout -subject 2>/dev/null | tr -d ' '
}

second_is_shown() {
    [ "$(subject)" = subject=CN=second ]
}

# --- systemd ---

notify=
if command -v python3 >/dev/null 2>&1; then
    python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True:
    print(s.recv(4096).decode().replace("\n", " "), flush=True)' "$work/notify" >"$work/notified" 2>/dev/null &
    notify=$!
    NOTIFY_SOCKET=$work/notify
    WATCHDOG_USEC=2000000
    export NOTIFY_SOCKET WATCHDOG_USEC
    await 60 test -S "$work/notify"
else
    echo 'skip - what systemd hears: no python3 to listen'
fi

# --- TLS ---

certificate first
certificate second
cp "$work/first.pem" "$work/tls.pem"
cp "$work/first.key" "$work/tls.key"
start_onpd "$work/data" --tls-cert "$work/tls.pem" --tls-key "$work/tls.key" --drain 1
case $url in https://*) ok 'it says https' ;; *) not_ok 'it says https' "$url" ;; esac
equal 'it answers over TLS' "$(curl -sS -m "$limit" --cacert "$work/first.pem" "$url/healthz" | jq -r .status)" ok
check 'TLS 1.1 is refused' sh -c "! curl -sS -m "$limit" --cacert '$work/first.pem' --tls-max 1.1 '$url/healthz' >/dev/null 2>&1"
check 'plain HTTP on the port is refused' sh -c "! curl -sS -m "$limit" 'http://${url#https://}/healthz' >/dev/null 2>&1"
code=$(curl -sS -m "$limit" --cacert "$work/first.pem" -o "$work/body" -w '%{http_code}' --data-binary "@$model" "$url/v1/models")
equal 'a model goes up over TLS' "$code" 201
equal 'and comes back whole' "$(curl -sS -m "$limit" --cacert "$work/first.pem" "$url/v1/models/$(jq -r .id "$work/body")/content" |
    sha256sum | cut -d ' ' -f 1)" "$(sha256sum <"$model" | cut -d ' ' -f 1)"
equal 'the first certificate is shown' "$(subject)" 'subject=CN=first'
cp "$work/second.pem" "$work/tls.pem"
kill -HUP "$onpd_pid"
check 'a certificate without its key is not taken, says the log' await 60 grep -q '"event":"reload_failed"' "$work/onpd.log"
equal 'and the first is still shown' "$(subject)" 'subject=CN=first'
cp "$work/second.key" "$work/tls.key"
kill -HUP "$onpd_pid"
check 'after SIGHUP the second is shown' await 60 second_is_shown
[ -z "$notify" ] || await 60 grep -q '^WATCHDOG=1' "$work/notified"
stop_onpd
equal 'SIGTERM ends it in order' "$onpd_status" 0
if [ -n "$notify" ]; then
    unset NOTIFY_SOCKET WATCHDOG_USEC
    await 60 grep -q '^STOPPING=1' "$work/notified"
    kill "$notify"
    wait "$notify" 2>/dev/null
    for word in READY=1 'RELOADING=1 MONOTONIC_USEC=' WATCHDOG=1 STOPPING=1; do
        check "systemd hears $word" grep -q "^$word" "$work/notified"
    done
fi
"$ONPD" --check --tls-cert "$work/tls.pem" >"$work/out" 2>&1
equal 'a certificate without a key setting is refused' "$?" 2

# --- metrics ---

rm -rf "$work/data"
start_onpd "$work/data" --drain 1
upload models "$model"
model_id=$id
upload samples "$clean"
samples_id=$id
upload samples "$probe"
unused_id=$id
submit "$fast_settings" 5
wait_end "$job" 600
equal 'a job runs' "$state" succeeded
request GET /metrics
for name in onpd_http_requests_total onpd_http_request_seconds_bucket onpd_jobs onpd_queue_age_seconds onpd_models \
    onpd_samples onpd_job_stage_seconds_total onpd_database_commits_total onpd_disk_free_bytes; do
    check "metrics have $name" grep -q "^$name[ {]" "$body"
done
check 'the stages took time' awk '/^onpd_job_stage_seconds_total[{]stage="expose"/ && $2 > 0 { found = 1 } END { exit !found }' "$body"
if command -v promtool >/dev/null 2>&1; then
    check 'promtool accepts them' sh -c "promtool check metrics <'$body' >/dev/null"
fi

# --- backup and restore ---

"$ONPD" backup "$work/backup" --data "$work/data" >"$work/out" 2>&1
equal 'a backup of a running server works' "$?" 0
"$ONPD" backup "$work/backup" --data "$work/data" >"$work/out" 2>&1
contains 'a second one copies nothing again' "$(cat "$work/out")" ' 0 of them copied'
"$ONPD" restore "$work/backup" --data "$work/data" >"$work/out" 2>&1
equal 'a store is not overwritten' "$?" 1
before=$(model_sha "$job")
stop_onpd
"$ONPD" restore "$work/backup" --data "$work/restored" >"$work/out" 2>&1
equal 'the backup is restored' "$?" 0
start_onpd "$work/restored" --drain 1
equal 'the repaired model is the same' "$(model_sha "$job")" "$before"
request GET "/v1/models/$model_id/content"
check 'the model is the one that was uploaded' cmp -s "$body" "$model"
submit "$fast_settings" 5
wait_end "$job" 600
equal 'and jobs run on it' "$(model_sha "$job")" "$before"
stop_onpd
blob=$(find "$work/backup/blobs" -type f -size +100k | head -n 1)
chmod u+w "$blob"
printf x | dd of="$blob" bs=1 seek=50 conv=notrunc 2>/dev/null
"$ONPD" restore "$work/backup" --data "$work/damaged" >"$work/out" 2>&1
equal 'a damaged backup is refused' "$?" 1
check 'and leaves no store' test ! -e "$work/damaged/onp.db"

# --- the end of old things: 0.00003 days are 2.6 s ---

start_onpd "$work/restored" --drain 1 --retain-unused 0.00003
await 60 answers "/v1/samples/$unused_id" 404
equal 'unused samples go in time' "$code" 404
request GET "/v1/samples/$samples_id"
equal 'used ones stay' "$code" 200
stop_onpd
start_onpd "$work/restored" --drain 1 --retain-succeeded 0.00003
await 60 answers "/v1/jobs/$job" 404
equal 'old jobs go in time' "$code" 404
request GET "/v1/models/$model_id"
equal 'models have a time of their own' "$code" 200
finish
