#!/bin/sh
# Status polls a second of onpd against libmicrohttpd alone with an answer of the same size: taken in turns, medians of the rounds.
# Needs wrk. Usage: tests/bench/http/run.sh [ROUNDS [SECONDS]]; ONP_BUILD is the build folder.
set -u
. tests/e2e/support/lib.sh
rounds=${1:-5}
seconds=${2:-4}
command -v wrk >/dev/null || { echo 'wrk is not installed' && exit 0; }
# shellcheck disable=SC2046 # flags are words
${CC:-cc} -O2 -o "$work/bare" tests/bench/http/bare.c $(pkg-config --cflags --libs libmicrohttpd) || exit 1
forge
start_onpd "$work/data" --drain 1 --log-level "${LOG_LEVEL:-info}"
upload models "$model" && model_id=$id
upload samples "$clean" && samples_id=$id
submit "$fast_settings" 1
request POST "/v1/jobs/$job/cancel"
wait_end "$job" 30 || exit 1
size=$(curl -s "$url/v1/jobs/$job" | wc -c)
mkfifo "$work/hold"
"$work/bare" "$size" <"$work/hold" >"$work/port" &
exec 9>"$work/hold"
while [ ! -s "$work/port" ]; do sleep 0.05; done
bare=http://127.0.0.1:$(cat "$work/port")
rate() { wrk -t1 -c32 -d"${seconds}s" "$1" | sed -n 's/^Requests.sec: *//p'; }
median() { sort -n | sed -n "$(((rounds + 1) / 2))p"; }
for round in $(seq "$rounds"); do
    rate "$bare/" >>"$work/bare.rates"
    rate "$url/v1/jobs/$job" >>"$work/onpd.rates"
    rate "$url/healthz" >>"$work/health.rates"
    echo "round $round: bare $(tail -n 1 "$work/bare.rates"), job $(tail -n 1 "$work/onpd.rates"), healthz $(tail -n 1 "$work/health.rates")"
    paste "$work/onpd.rates" "$work/bare.rates" | tail -n 1 | awk '{print $1 / $2}' >>"$work/ratios"
done
echo "answer of $size bytes; requests a second: bare $(median <"$work/bare.rates"), job $(median <"$work/onpd.rates"), healthz $(median <"$work/health.rates")"
echo "job / bare: $(median <"$work/ratios")"
exec 9>&-
stop_onpd
