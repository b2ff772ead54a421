#!/bin/sh
# The contract: openapi.yaml is linted, then the real server is used through a validating proxy that compares every request and answer
# with it. Node's packages go to the build folder. Usage: tests/contract/run.sh BUILD
set -u
here=tests/contract
export ONP_BUILD="$1"
. tests/e2e/support/lib.sh
folder=$build/contract
mkdir -p "$folder" && cp "$here/package.json" "$here/package-lock.json" "$here/redocly.yaml" "$folder/" || exit 1
cp server/api/openapi.yaml "$folder/openapi.yaml" || exit 1
if [ ! -x "$folder/node_modules/.bin/prism" ] || ! cmp -s "$here/package-lock.json" "$folder/installed"; then
    (cd "$folder" && npm ci --no-audit --no-fund) || exit 1
    cp "$here/package-lock.json" "$folder/installed"
fi

check 'openapi.yaml has no lint' sh -c "cd '$folder' && node_modules/.bin/redocly lint --config redocly.yaml openapi.yaml >'$work/lint' 2>&1"
[ "$failures" -eq 0 ] || cat "$work/lint"

proxy_pid=
stop_proxy() {
    [ -z "$proxy_pid" ] || kill "$proxy_pid" 2>/dev/null
    clean_up
}
trap stop_proxy EXIT
start_onpd "$work/data" --drain 1
server=$url
port=$((20000 + $$ % 20000))
"$folder/node_modules/.bin/prism" proxy "$folder/openapi.yaml" "$server" --port "$port" --errors >"$work/prism.log" 2>&1 &
proxy_pid=$!
proxy=http://127.0.0.1:$port
url=$proxy
for _ in $(seq 100); do
    curl -s -o /dev/null "$url/healthz" && break
    sleep 0.3
done

# agree NAME CODE METHOD PATH [curl options]: the answer has this code, and the proxy finds nothing to say. A violation comes as a
# problem of the proxy's own, or in sl-violations.
agree() {
    agree_name=$1
    agree_code=$2
    shift 2
    request "$@"
    violation=$(tr -d '\r' <"$headers" | sed -n 's/^sl-violations: //Ip')
    if [ "$code" != "$agree_code" ]; then
        not_ok "$agree_name" "got $code, expected $agree_code: $(head -c 600 "$body") $violation"
    elif [ -n "$violation" ]; then
        not_ok "$agree_name" "$violation"
    else
        ok "$agree_name"
    fi
}
# direct ...: agree, past the proxy, which would take binary bodies for text and break them; what it made is looked at through the proxy.
direct() {
    url=$server
    agree "$@"
    url=$proxy
}
etag() { tr -d '\r' <"$headers" | sed -n 's/^etag: //Ip'; }
location() { tr -d '\r' <"$headers" | sed -n 's/^location: //Ip'; }
json_type='Content-Type: application/json'
missing_job=/v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV

forge
agree 'health' 200 GET /healthz
agree 'readiness' 200 GET /readyz
agree 'server' 200 GET /v2
agree 'live by its other name' 200 GET /v2/health/live
agree 'ready by its other name' 200 GET /v2/health/ready
agree 'metrics' 200 GET /metrics
agree 'description' 200 GET /openapi.json
agree 'dashboard' 200 GET /
agree 'capabilities' 200 GET /v1/capabilities
agree 'page of a problem' 200 GET /problems/not-found
agree 'page of no problem' 404 GET /problems/none

direct 'upload a model' 201 POST '/v1/models?name=m' --data-binary "@$model" -H 'Content-Type: application/octet-stream'
model_id=$(json .id)
direct 'upload it again' 200 POST /v1/models --data-binary "@$model" -H 'Content-Type: application/octet-stream'
agree 'upload noise' 422 POST /v1/models --data-binary "@$0" -H 'Content-Type: application/octet-stream'
direct 'upload samples' 201 POST /v1/samples --data-binary "@$clean" -H 'Content-Type: application/octet-stream'
samples_id=$(json .id)
agree 'one model' 200 GET "/v1/models/$model_id"
agree 'the same, unchanged' 304 GET "/v1/models/$model_id" -H "If-None-Match: $(etag)"
agree 'the same, in another state' 412 GET "/v1/models/$model_id" -H 'If-Match: "other"'
agree 'list of models' 200 GET '/v1/models?limit=1'
agree 'list of samples' 200 GET /v1/samples
agree 'one sample set' 200 GET "/v1/samples/$samples_id"
agree 'bytes of a model' 200 GET "/v1/models/$model_id/content"
agree 'some of them' 206 GET "/v1/models/$model_id/content" -H 'Range: bytes=0-9'
agree 'layers' 200 GET "/v1/models/$model_id/graph"
agree 'one layer' 200 GET "/v1/models/$model_id/graph?layer=0"
agree 'no such layer' 404 GET "/v1/models/$model_id/graph?layer=999"

tus='Tus-Resumable: 1.0.0'
size=$(wc -c <"$probe")
agree 'what of tus is spoken' 204 OPTIONS /v1/uploads
agree 'begin an upload' 201 POST /v1/uploads -H "$tus" -H "Upload-Length: $size" -H "Upload-Metadata: kind $(printf samples | base64)"
upload=$(location)
head -c 1000 "$probe" >"$work/head_of_probe"
tail -c +1001 "$probe" >"$work/rest_of_probe"
piece='Content-Type: application/offset+octet-stream'
direct 'first piece' 204 PATCH "$upload" -H "$tus" -H "$piece" -H 'Upload-Offset: 0' --data-binary "@$work/head_of_probe"
agree 'piece at the wrong place' 409 PATCH "$upload" -H "$tus" -H "$piece" -H 'Upload-Offset: 7' --data-binary text
agree 'complete too early' 409 POST "$upload/complete" -H "$json_type" --data '{}'
direct 'second piece' 204 PATCH "$upload" -H "$tus" -H "$piece" -H 'Upload-Offset: 1000' --data-binary "@$work/rest_of_probe"
agree 'complete' 201 POST "$upload/complete" -H "$json_type" --data '{}'
agree 'complete again' 200 POST "$upload/complete" -H "$json_type" --data '{}'
agree 'begin another' 201 POST /v1/uploads -H "$tus" -H 'Upload-Length: 8'
upload=$(location)
agree 'piece of text' 204 PATCH "$upload" -H "$tus" -H "$piece" -H 'Upload-Offset: 0' --data-binary text
agree 'piece with a wrong checksum' 460 PATCH "$upload" -H "$tus" -H "$piece" -H 'Upload-Offset: 4' -H 'Upload-Checksum: sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=' --data-binary text
agree 'piece of text at the end' 204 PATCH "$upload" -H "$tus" -H "$piece" -H 'Upload-Offset: 4' --data-binary text
agree 'where it stands' 200 HEAD "$upload" -I -H "$tus"
agree 'text is no model' 422 POST "$upload/complete" -H "$json_type" --data '{"kind":"model"}'
agree 'give an upload up' 204 DELETE "$upload" -H "$tus"

submission=$(jq -nc --arg m "$model_id" --arg s "$samples_id" --argjson p "$fast_settings" '{model_id: $m, samples_id: $s, seed: 1, parameters: $p, labels: {team: "red"}}')
agree 'submit' 202 POST /v1/jobs -H "$json_type" -H 'Idempotency-Key: one' --data "$submission"
job=$(json .id)
agree 'submit again' 202 POST /v1/jobs -H "$json_type" -H 'Idempotency-Key: one' --data "$submission"
agree 'another with the same key' 422 POST /v1/jobs -H "$json_type" -H 'Idempotency-Key: one' --data "$(printf '%s' "$submission" | jq -c '.seed = 2')"
agree 'list of jobs' 200 GET '/v1/jobs?label=team%3Dred&limit=5'
agree 'one job' 200 GET "/v1/jobs/$job"
agree 'no such job' 404 GET "$missing_job"
wait_end "$job" 240
equal 'the job succeeds' "$state" succeeded
agree 'the job when it is over' 200 GET "/v1/jobs/$job?wait=1"
agree 'events' 200 GET "/v1/jobs/$job/events"
agree 'result' 200 GET "/v1/jobs/$job/result"
agree 'artifacts' 200 GET "/v1/jobs/$job/artifacts"
agree 'report' 200 GET "/v1/jobs/$job/artifacts/report.json"
agree 'repaired model' 200 GET "/v1/jobs/$job/artifacts/model.onnx"
agree 'cancel too late' 409 POST "/v1/jobs/$job/cancel"
agree 'retry what succeeded' 409 POST "/v1/jobs/$job/retry"
agree 'delete the job' 204 DELETE "/v1/jobs/$job"
agree 'delete the samples' 204 DELETE "/v1/samples/$samples_id"
agree 'delete the model' 204 DELETE "/v1/models/$model_id" -H 'If-Match: *'

agree 'first token' 201 POST /v1/tokens -H "$json_type" --data '{"name":"chief","scopes":["admin"]}'
auth="Authorization: Bearer $(json .token)"
agree 'no token' 401 GET /v1/jobs
agree 'tokens' 200 GET /v1/tokens -H "$auth"
agree 'second token' 201 POST /v1/tokens -H "$auth" -H "$json_type" --data '{"scopes":["read"],"expires_in_s":60}'
reader="Authorization: Bearer $(json .token)"
token=$(json .id)
agree 'one token' 200 GET "/v1/tokens/$token" -H "$auth"
agree 'lacks the scope' 403 GET /metrics -H "$reader"
agree 'revoke' 204 DELETE "/v1/tokens/$token" -H "$auth"
agree 'revoked' 401 GET /v1/jobs -H "$reader"
[ "$failures" -eq 0 ] || grep -i violation "$work/prism.log" | head -n 20
finish
