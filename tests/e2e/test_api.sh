#!/bin/sh
# The REST interface of a running onpd, as curl and raw sockets see it. Bash, for its sockets.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set -u
export LC_ALL=C
. tests/e2e/support/lib.sh
data=$work/data

start() { start_onpd "$data" --drain 1 "$@"; }

# ask CURL-ARGUMENT...: sets code, head and body
ask() {
    code=$(curl -s --max-time "$limit" -o "$work/body" -D "$work/head" -w '%{http_code}' "$@")
    head=$(tr -d '\r' <"$work/head")
    body=$(tr -d '\0' <"$work/body")
}
field() { printf '%s\n' "$head" | sed -n "s/^$1: //Ip" | tail -n 1; }
member() { jq -r "$1" "$work/body" 2>/dev/null; }

# raw BYTES (printf escapes): the status line of what comes back over a plain socket
raw() {
    local port=${url##*:}
    { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || return
    printf "$1" >&3
    timeout "$limit" head -n 1 <&3 | tr -d '\r'
    exec 3<&- 3>&-
}

# problem NAME CODE TYPE: the answer is a problem document
problem() {
    equal "$1: code" "$code" "$2"
    equal "$1: media type" "$(field Content-Type)" "application/problem+json"
    equal "$1: type" "$(member .type)" "/problems/$3"
    equal "$1: status member" "$(member .status)" "$2"
}

test_start() {
    start
    ok "onpd starts on a free port"
    ask "$url/healthz"
    equal "healthz" "$code" 200
    ask "$url/readyz"
    equal "readyz" "$code" 200
    ask "$url/v2/health/ready"
    equal "v2 ready" "$code" 200
    ask "$url/v1/capabilities"
    equal "capabilities" "$(member '.methods[0].name')" onp
    ask "$url/metrics"
    contains "metrics" "$body" 'onpd_http_requests_total{method="GET",route="/healthz",status="2xx"} 1'
    ask "$url/openapi.json"
    equal "openapi.json" "$(member .openapi)" 3.1.0
    ask "$url/"
    contains "dashboard" "$body" "<title>onp</title>"
    contains "dashboard has a strict policy" "$(field Content-Security-Policy)" "default-src 'none'"
}

test_errors() {
    ask "$url/nothing"
    problem "unknown path" 404 not-found
    ask -X PATCH "$url/v1/jobs"
    problem "wrong method" 405 method-not-allowed
    equal "wrong method names the right ones" "$(field Allow)" "POST, GET, HEAD"
    ask "$url/v1/jobs/job_nope"
    problem "malformed id" 404 not-found
    ask "$url/v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV"
    problem "unknown job" 404 not-found
    ask "$url/v1/jobs?limit=0"
    problem "limit out of range" 400 malformed
    ask "$url/v1/jobs?state=lost"
    problem "unknown state" 400 malformed
    ask "$url/v1/jobs?colour=red"
    problem "unknown query parameter" 400 malformed
    ask -H 'Content-Type: application/json' -d '{"a":' "$url/v1/jobs"
    problem "broken JSON" 400 malformed
    contains "broken JSON has a place" "$(member '.errors[0].place')" "line 1"
    ask -H 'Content-Type: text/plain' -d '{}' "$url/v1/jobs"
    problem "not JSON" 415 unsupported-media-type
    ask -F file=@"$0" "$url/v1/models"
    problem "multipart upload" 415 unsupported-media-type
    ask -X POST "$url/v1/models"
    problem "empty upload" 422 invalid
    ask -H 'Content-Type: application/json' -d '{"model_id":"mdl_01ARZ3NDEKTSV4RRFFQ69G5FAV","samples_id":"smp_01ARZ3NDEKTSV4RRFFQ69G5FAV","sed":1}' "$url/v1/jobs"
    problem "unknown key" 422 invalid
    equal "unknown key has a pointer" "$(member '.errors[0].pointer')" /sed
    head -c 1100000 /dev/zero >"$work/large"
    ask -H 'Content-Type: application/json' --data-binary @"$work/large" "$url/v1/jobs"
    problem "JSON over 1 MiB" 413 too-large
    ask -H 'X-Request-Id: my-id.1' "$url/nothing"
    equal "request id comes back" "$(field X-Request-Id)" my-id.1
    ask -H 'Host: evil.example' "$url/v1/jobs"
    problem "foreign name in Host" 403 forbidden
    ask -X POST -H 'Origin: http://evil.example' "$url/v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV/cancel"
    problem "foreign page" 403 forbidden
}

test_framing() {
    local get='GET /healthz HTTP/1.1\r\n' bad='HTTP/1.1 400 Bad Request'
    equal "plain request" "$(raw "${get}Host: a\r\n\r\n")" "HTTP/1.1 403 Forbidden"
    equal "plain request to localhost" "$(raw "${get}Host: localhost\r\n\r\n")" "HTTP/1.1 200 OK"
    equal "two Hosts" "$(raw "${get}Host: localhost\r\nHost: localhost\r\n\r\n")" "$bad"
    equal "no Host" "$(raw "$get\r\n")" "$bad"
    equal "folded line" "$(raw "${get}Host: localhost\r\nX: y\r\n z\r\n\r\n")" "$bad"
    equal "NUL in a field" "$(raw "${get}Host: localhost\r\nX: y\000z\r\n\r\n")" "$bad"
    equal "two lengths" "$(raw 'POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}')" "$bad"
    equal "length and chunks" "$(raw 'POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n')" "$bad"
    ask "$url/healthz"
    equal "still alive" "$code" 200
}

test_uploads() {
    head -c 3000000 /dev/urandom >"$work/noise"
    ask --data-binary @"$work/noise" "$url/v1/models"
    problem "noise as a model" 422 invalid
    ask --data-binary @"$work/noise" "$url/v1/samples"
    problem "noise as samples" 422 invalid
    equal "nothing is left of it" "$(find "$data/tmp" "$data/blobs" -type f | wc -l)" 0
    ask "$url/v1/models"
    equal "and no row" "$(member '.data | length')" 0
    forge
    ask --data-binary @"$model" "$url/v1/models?name=first%20model"
    equal "upload a model" "$code" 201
    model_id=$(member .id)
    equal "it has a place" "$(field Location)" "/v1/models/$model_id"
    equal "it keeps its name" "$(member .name)" "first model"
    equal "its hash is right" "$(member .sha256)" "$(sha256sum <"$model" | cut -d' ' -f1)"
    equal "it was understood" "$(member '.info.batch')" dynamic
    ask -T "$model" "$url/v1/models"
    equal "the same again is there already" "$code" 200
    equal "and is the same" "$(member .id)" "$model_id"
    ask --data-binary @"$clean" -H "Content-Digest: sha-256=:$(openssl dgst -sha256 -binary "$probe" | base64):" "$url/v1/samples"
    problem "wrong digest" 422 invalid
    ask -T "$clean" -H "Content-Digest: sha-256=:$(openssl dgst -sha256 -binary "$clean" | base64):" "$url/v1/samples?name=clean"
    equal "upload samples with digest" "$code" 201
    clean_id=$(member .id)
    ask --data-binary @"$probe" -H 'Transfer-Encoding: chunked' "$url/v1/samples?name=probe"
    equal "upload a probe in chunks" "$code" 201
    probe_id=$(member .id)
    equal "it has a target" "$(member .info.has_target)" true
}

test_reading() {
    local etag size
    size=$(wc -c <"$model")
    ask "$url/v1/models/$model_id"
    etag=$(field ETag)
    ask -H "If-None-Match: $etag" "$url/v1/models/$model_id"
    equal "unchanged" "$code" 304
    ask "$url/v1/models/$model_id/content"
    equal "content" "$code" 200
    if cmp -s "$work/body" "$model"; then ok "content is what was sent"; else not_ok "content is what was sent" "differs"; fi
    etag=$(field ETag)
    ask -r 100-199 "$url/v1/models/$model_id/content"
    equal "range" "$code" 206
    equal "range says where" "$(field Content-Range)" "bytes 100-199/$size"
    equal "range is right" "$(sha256sum <"$work/body")" "$(tail -c +101 "$model" | head -c 100 | sha256sum)"
    ask -r "$size-" "$url/v1/models/$model_id/content"
    problem "range past the end" 416 range-not-satisfiable
    ask -r 0-9 -H 'If-Range: "other"' "$url/v1/models/$model_id/content"
    equal "range of another state" "$code" 200
    ask -r 0-9 -H "If-Range: $etag" "$url/v1/models/$model_id/content"
    equal "range of this state" "$code" 206
    ask -I "$url/v1/models/$model_id/content"
    equal "HEAD has the length" "$(field Content-Length)" "$size"
    ask "$url/v1/samples?limit=1"
    equal "first page" "$(member '.data[0].id'),$(member .has_more)" "$probe_id,true"
    ask "$url/v1/samples?limit=1&after=$(member .next_after)"
    equal "second page" "$(member '.data[0].id'),$(member .has_more)" "$clean_id,false"
}

# submit_with JSON-MEMBERS
submit_with() { ask -H 'Content-Type: application/json' -d "{\"model_id\":\"$model_id\",\"samples_id\":\"$clean_id\"$1}" "$url/v1/jobs"; }

test_jobs() {
    local etag began
    submit_with ',"parameters":{"no_such":1}'
    problem "unknown parameter" 422 invalid
    equal "unknown parameter has a pointer" "$(member '.errors[0].pointer')" /parameters/no_such
    submit_with ',"method":"magic"'
    equal "unknown method has a pointer" "$(member '.errors[0].pointer')" /method
    submit_with ",\"probe_id\":\"$clean_id\""
    equal "probe without target has a pointer" "$(member '.errors[0].pointer')" /probe_id
    submit_with ",\"seed\":3,\"labels\":{\"team\":\"red\"},\"parameters\":$slow_settings"
    equal "submit" "$code" 202
    job_id=$(member .id)
    equal "job has a place" "$(field Location)" "/v1/jobs/$job_id"
    ask "$url/v1/jobs/$job_id/result"
    problem "result before the end" 409 conflict
    ask -X DELETE "$url/v1/jobs/$job_id"
    problem "delete before the end" 409 conflict
    ask -X DELETE "$url/v1/models/$model_id"
    problem "delete a model in use" 409 conflict
    submit_with ",\"priority\":1,\"parameters\":$slow_settings"
    second_id=$(member .id)
    ask "$url/v1/jobs?label=team%3Dred"
    equal "list by label" "$(member '[.data[].id] | join(" ")')" "$job_id"
    ask "$url/v1/jobs/$second_id"
    etag=$(field ETag)
    began=$(date +%s%N)
    (sleep 0.7; curl -s -o /dev/null -X POST "$url/v1/jobs/$second_id/cancel") &
    ask -H "If-None-Match: $etag" "$url/v1/jobs/$second_id?wait=30"
    wait $!
    equal "long-poll wakes at a change" "$code" 200
    if [ $((($(date +%s%N) - began) / 1000000)) -lt 29000 ]; then ok "and does so in time"; else not_ok "and does so in time" "slow"; fi
    curl -sN --max-time "$limit" -H 'Accept: text/event-stream' "$url/v1/jobs/$second_id/events" >"$work/events"
    contains "event stream ends" "$(cat "$work/events")" "event: done"
    contains "event stream has ids" "$(cat "$work/events")" "id: 1"
    ask "$url/v1/jobs/$second_id/events?limit=1"
    equal "events as a page" "$(member '.data[0].data.state'),$(member .has_more)" "queued,true"
    ask "$url/v1/jobs/$second_id"
    equal "cancelled" "$(member .state)" cancelled
    ask -X POST "$url/v1/jobs/$second_id/cancel"
    equal "cancel again" "$code" 202
    ask -X DELETE "$url/v1/jobs/$second_id"
    equal "delete" "$code" 204
    ask "$url/v1/jobs/$second_id"
    problem "deleted" 404 not-found
}

is_cancelled() {
    ask "$url/v1/jobs/$1"
    [ "$(member .state)" = cancelled ]
}

test_restart() {
    stop_onpd
    start
    ok "onpd starts again"
    ask "$url/v1/models/$model_id"
    equal "the model is still there" "$code" 200
    ask "$url/v1/jobs/$job_id"
    equal "the job is still there" "$code" 200
    case $(member .state) in
    queued | starting | running) ok "and goes on" ;;
    *) not_ok "and goes on" "state $(member .state)" ;;
    esac
    ask -X POST "$url/v1/jobs/$job_id/cancel"
    equal "cancel it" "$code" 202
    await 60 is_cancelled "$job_id"
    equal "it is cancelled" "$(member .state)" cancelled
    ask -X DELETE "$url/v1/models/$model_id"
    equal "delete the model" "$code" 204
    ask "$url/v1/models/$model_id/content"
    problem "its bytes" 404 not-found
}

test_kill() {
    kill -9 "$onpd_pid"
    wait "$onpd_pid" 2>/dev/null
    onpd_pid=
    start
    ok "onpd starts after kill -9"
    ask "$url/v1/samples"
    equal "the samples are still there" "$(member '.data | length')" 2
}

test_token() {
    stop_onpd
    printf 'open sesame\n' >"$work/token"
    start --token-file "$work/token"
    ask "$url/v1/jobs"
    problem "no token" 401 unauthenticated
    contains "it says how" "$(field WWW-Authenticate)" Bearer
    ask -H 'Authorization: Bearer wrong' "$url/v1/jobs"
    problem "wrong token" 401 unauthenticated
    ask -H 'Authorization: Bearer open sesame' "$url/v1/jobs"
    equal "right token" "$code" 200
    ask "$url/healthz"
    equal "health needs none" "$code" 200
}

test_socket() {
    stop_onpd
    rm -f "$work/ready"
    "$build/onpd" --unix "$work/sock" --data "$data" --ready-file "$work/ready" 2>>"$work/onpd.log" &
    onpd_pid=$!
    await 60 onpd_is_up_or_gone
    equal "ready on a socket" "$(cat "$work/ready" 2>/dev/null)" "unix:$work/sock"
    ask --unix-socket "$work/sock" http://onpd/healthz
    equal "answers on it" "$code" 200
    equal "for this user only" "$(stat -c %a "$work/sock")" 600
    stop_onpd
    if [ -e "$work/sock" ]; then not_ok "the socket goes away" "it is there"; else ok "the socket goes away"; fi
}

test_refusals() {
    "$build/onpd" --listen 0.0.0.0:0 --data "$work/other" 2>"$work/refusal"
    equal "open to others is refused" $? 2
    contains "and says why" "$(cat "$work/refusal")" --insecure
    "$build/onpd" --lisen x 2>"$work/refusal"
    equal "unknown option is refused" $? 2
    contains "and names the nearest" "$(cat "$work/refusal")" --listen
    start
    "$build/onpd" --listen 127.0.0.1:0 --data "$data" 2>"$work/refusal"
    equal "a data folder in use is refused" $? 1
    stop_onpd
    "$build/onpd" --check --config deploy/onpd.json
    equal "the example configuration is fine" $? 0
}

test_start
test_errors
test_framing
test_uploads
test_reading
test_jobs
test_restart
test_kill
test_token
test_socket
test_refusals
finish
