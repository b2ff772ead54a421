# What the end-to-end tests share: results, a scratch folder, onpd on a free port, the forged model, curl. Sourced by
# POSIX sh scripts that are started from the root of the tree.
build=${ONP_BUILD:-build}
case $build in /*) ;; *) build=$PWD/$build ;; esac
onp=$build/onp
work=$(mktemp -d "${TMPDIR:-/tmp}/onp-e2e-XXXXXX") || exit 1
onpd_pid=
failures=0
# Waits are stretched by this where programs are slow; the most that a single command may take, in seconds.
stretch=${ONP_TEST_PATIENCE:-1}
limit=$((600 * stretch))
unset ONP_SERVER ONP_TOKEN
export ONPD="$build/onpd"

# Settings of a job that takes seconds; the method's own tests are elsewhere.
fast_settings='{"expose_steps":8,"expose_rungs":2,"expose_batch":32,"restarts":0,"iterations":2,
    "masks_per_iteration":4,"adversary_rounds":0,"random_baseline":false}'
# Settings of a job that is surely still running when somebody looks.
slow_settings='{"iterations":10000,"masks_per_iteration":64,"patience":0,"expose_steps":60,"random_baseline":false}'
# The first, as words of onp.
fast_words='--set expose_steps=8 --set expose_rungs=2 --set expose_batch=32 --set restarts=0 --set iterations=2
    --set masks_per_iteration=4 --set adversary_rounds=0 --set random_baseline=false'

ok() {
    printf 'ok - %s\n' "$1"
}

not_ok() {
    printf 'not ok - %s\n' "$1"
    [ -z "${2-}" ] || printf '    %s\n' "$2"
    failures=$((failures + 1))
}

# check NAME COMMAND...: ok if the command succeeds.
check() {
    check_name=$1
    shift
    if "$@"; then ok "$check_name"; else not_ok "$check_name" "failed: $*"; fi
}

# Whether a file is JSON (or lines of it), and the filter is true of the last.
is_json() {
    jq -e "${2:-.}" "$1" >/dev/null 2>&1
}

# equal NAME GOT EXPECTED
equal() {
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', expected '$3'"; fi
}

# contains NAME TEXT PATTERN (a shell pattern)
contains() {
    case $2 in
    *$3*) ok "$1" ;;
    *) not_ok "$1" "got '$2', expected something with '$3'" ;;
    esac
}

# await SECONDS COMMAND...: tries the command until it succeeds. The naps between are counted, not the clock, so that a machine that
# stands still for a while takes nothing of them.
await() {
    await_naps=$(($1 * 10 * stretch))
    shift
    until "$@"; do
        [ "$await_naps" -gt 0 ] || return 1
        await_naps=$((await_naps - 1))
        sleep 0.1
    done
}

onpd_is_up_or_gone() {
    [ -s "$work/ready" ] || ! kill -0 "$onpd_pid" 2>/dev/null
}

# start_onpd DATA [OPTIONS]: sets onpd_pid and url.
start_onpd() {
    onpd_data=$1
    shift
    rm -f "$work/ready"
    "$build/onpd" --listen 127.0.0.1:0 --data "$onpd_data" --ready-file "$work/ready" "$@" 2>>"$work/onpd.log" &
    onpd_pid=$!
    await 60 onpd_is_up_or_gone
    if [ ! -s "$work/ready" ]; then
        not_ok 'onpd starts'
        tail -n 20 "$work/onpd.log"
        exit 1
    fi
    url=$(cat "$work/ready")
}

# SIGTERM; sets onpd_status to the exit status.
stop_onpd() {
    [ -n "$onpd_pid" ] || return 0
    kill "$onpd_pid" 2>/dev/null
    wait "$onpd_pid" 2>/dev/null
    onpd_status=$?
    onpd_pid=
}

clean_up() {
    if [ -n "$onpd_pid" ]; then
        kill -9 "$onpd_pid" 2>/dev/null
        wait "$onpd_pid" 2>/dev/null
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# End of a script.
finish() {
    if [ "$failures" -gt 0 ] && [ -s "$work/onpd.log" ]; then
        printf 'the log of onpd ends with:\n'
        tail -n 20 "$work/onpd.log"
    fi
    stop_onpd
    [ "$failures" -eq 0 ] || exit 1
    exit 0
}

# The forged model and its samples: sets forged to their folder. Made once, by the first build that needs it: ONP_FORGED is the same for
# those with sanitizers.
forge() {
    forged=${ONP_FORGED:-$build/forge-test}
    if [ ! -s "$forged/done" ]; then
        rm -rf "$forged"
        mkdir -p "$forged"
        if ! "$build/onp-forge" --attack patch --classes 6 --width 12 --epochs 10 --train-count 4000 \
            --rate 0.1 --target 2 --seed 11 --out "$forged" >"$forged/log" 2>&1; then
            not_ok 'the forge makes a model'
            tail -n 20 "$forged/log"
            exit 1
        fi
        echo yes >"$forged/done"
    fi
    model=$forged/model.onnx
    clean=$forged/clean.npz
    probe=$forged/probe.npz
}

# request METHOD PATH [curl options]: sets code and body (a file's name), and headers (a file's name).
request() {
    request_method=$1
    request_path=$2
    shift 2
    body=$work/body
    headers=$work/headers
    code=$(curl -sS -m "$limit" -o "$body" -D "$headers" -w '%{http_code}' -X "$request_method" "$@" "$url$request_path" 2>>"$work/curl.log")
}

# json FILTER: of the last body.
json() {
    jq -r "$1" "$body" 2>/dev/null
}

# upload models|samples FILE: sets id.
upload() {
    request POST "/v1/$1?name=$(basename "$2")" --data-binary "@$2"
    id=$(json .id)
}

# submit SETTINGS SEED [PROBE]: a job of model_id and samples_id; sets job and code.
submit() {
    submit_body=$(jq -nc --arg m "$model_id" --arg s "$samples_id" --arg p "${3-}" --argjson seed "$2" --argjson set "$1" \
        '{model_id: $m, samples_id: $s, method: "onp", seed: $seed, parameters: $set} +
         (if $p == "" then {} else {probe_id: $p} end)')
    request POST /v1/jobs -H 'Content-Type: application/json' --data-binary "$submit_body"
    job=$(json .id)
}

# wait_state JOB WORDS SECONDS: until the state is one of the words; sets state.
wait_state() {
    await "$3" job_is "$1" "$2"
}

# job_is JOB WORDS: whether its state is one of the words; sets state.
job_is() {
    request GET "/v1/jobs/$1"
    state=$(json .state)
    case " $2 " in *" $state "*) return 0 ;; esac
    return 1
}

# answers PATH CODE: whether that is how a GET is answered.
answers() {
    request GET "$1"
    [ "$code" = "$2" ]
}

# wait_end JOB SECONDS: until it is over; sets state.
wait_end() {
    wait_state "$1" 'succeeded failed cancelled' "$2"
}

# The child processes of onpd, one a line.
onpd_children() {
    cat /proc/"$onpd_pid"/task/*/children 2>/dev/null | tr ' ' '\n' | grep .
}

# The SHA-256 of a job's repaired model.
model_sha() {
    curl -sS -m "$limit" "$url/v1/jobs/$1/artifacts/model.onnx" | sha256sum | cut -d ' ' -f 1
}
