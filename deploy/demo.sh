#!/bin/sh
# The whole way, once: forge a small backdoored model (or take MODEL, SAMPLES, PROBE), start onpd, upload, repair, show before
# and after. Called by `make demo`, which sets ONP_BUILD; needs nothing but the built programs.
set -eu

build=${ONP_BUILD:-${BUILD:-build}}
case $build in /*) ;; *) build=$PWD/$build ;; esac
model=${MODEL:-}
samples=${SAMPLES:-}
probe=${PROBE:-}
seed=${SEED:-7}
out=$build/demo
work=
onpd_pid=

say() {
    printf '\n== %s\n' "$*"
}

fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

clean_up() {
    status=$?
    trap - EXIT
    if [ -n "$onpd_pid" ]; then
        kill "$onpd_pid" 2>/dev/null || true
        wait "$onpd_pid" 2>/dev/null || true
    fi
    [ -z "$work" ] || rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for program in onp onpd onp-forge; do
    [ -x "$build/$program" ] || fail "$build/$program is not there; run make first"
done
if [ -z "$model" ] && [ -n "$samples$probe" ]; then
    fail 'SAMPLES or PROBE were given without MODEL; give MODEL=m.onnx SAMPLES=clean.npz [PROBE=probe.npz], or nothing'
fi
if [ -n "$model" ] && [ -z "$samples" ]; then
    fail 'MODEL was given without SAMPLES; give MODEL=m.onnx SAMPLES=clean.npz [PROBE=probe.npz], or nothing'
fi
for file in "$model" "$samples" "$probe"; do
    [ -z "$file" ] || [ -r "$file" ] || fail "cannot read $file"
done
mkdir -p "$out"
work=$(mktemp -d "${TMPDIR:-/tmp}/onp-demo-XXXXXX")
begin=$(date +%s)

if [ -z "$model" ]; then
    say 'Forging a small model with a backdoor: a patch in the corner turns every sign into class 2'
    "$build/onp-forge" --attack patch --rate 0.1 --target 2 --seed "$seed" --out "$out"
    model=$out/model.onnx
    samples=$out/clean.npz
    probe=$out/probe.npz
fi

say 'Starting onpd on a free port of this machine'
"$build/onpd" --listen 127.0.0.1:0 --data "$work/data" --ready-file "$work/ready" 2>"$work/onpd.log" &
onpd_pid=$!
tries=0
while [ ! -s "$work/ready" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ] || ! kill -0 "$onpd_pid" 2>/dev/null; then
        tail -n 20 "$work/onpd.log" >&2
        fail 'onpd did not start; its log is above'
    fi
    sleep 0.1
done
url=$(cat "$work/ready")
export ONP_SERVER="$url"
printf '%s\n' "$url"

# upload FILE KIND: says what came back, sets id.
upload() {
    "$build/onp" upload --kind "$2" "$1" >"$work/line"
    cat "$work/line"
    id=$(cut -d ' ' -f 1 <"$work/line")
}

say 'Uploading'
upload "$model" model
model_id=$id
upload "$samples" samples
samples_id=$id
if [ -n "$probe" ]; then
    upload "$probe" samples
    set -- --probe "$id"
else
    set --
fi

say 'Finding and pruning the backdoor'
job=$("$build/onp" submit "$model_id" --samples "$samples_id" "$@" --method onp --seed "$seed" --watch)

say 'Before and after'
"$build/onp" result "$job"
"$build/onp" download "$job" -o "$out/repaired.onnx" -q >/dev/null
"$build/onp" download "$job" report.json -o "$out/report.json" -q >/dev/null
printf '\n  repaired model:  %s\n  report:          %s   (onp report shows it)\n' "$out/repaired.onnx" "$out/report.json"
printf '  the whole demo:  %d s\n' $(($(date +%s) - begin))

say 'The same with curl (after: build/onpd); the first answers with the id that the second wants'
cat <<TEXT
curl --data-binary @$model 'http://127.0.0.1:8080/v1/models?name=model.onnx'
curl -H 'Content-Type: application/json' -d '{"model_id": "mdl_...", "samples_id": "smp_..."}' http://127.0.0.1:8080/v1/jobs
TEXT
