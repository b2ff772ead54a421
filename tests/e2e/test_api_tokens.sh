#!/bin/sh
# Tokens and resumable uploads of a running onpd: what needs the daemon itself, its restarts and its command line.
set -u
. tests/e2e/support/lib.sh
data=$work/data
tus='Tus-Resumable: 1.0.0'
piece='Content-Type: application/offset+octet-stream'
offset() {
    request HEAD "$1" -I -H "$tus"
    tr -d '\r' <"$headers" | sed -n 's/^upload-offset: //Ip'
}

# --- tokens from the command line ---
secret=$("$build/onpd" token create --data "$data" --name reader --scopes read 2>"$work/err")
equal 'the first token must be an admin' $? 1
secret=$("$build/onpd" token create --data "$data" --name chief --scopes admin 2>"$work/err")
equal 'make a token' $? 0
contains 'its secret is all of the output' "$secret" 'onp_'
"$build/onpd" token create --data "$data" --scopes root 2>"$work/err"
equal 'unknown scope' $? 1
reader=$("$build/onpd" token create --data "$data" --name reader --scopes read,metrics 2>"$work/err")
reader_id=$(sed -n 's/^token \(tok_[0-9A-Z]*\);.*/\1/p' "$work/err")
contains 'list them' "$("$build/onpd" token list --data "$data")" 'read,metrics'
check 'no secret is in the data folder' sh -c "! grep -rqF '$secret' '$data'"
"$build/onpd" token 2>/dev/null
equal 'usage' $? 2

before=$(date -u +%Y-%m-%d)
start_onpd "$data" --drain 1
request GET /v1/jobs
equal 'the server asks for a token' "$code" 401
request GET /v1/jobs -H "Authorization: Bearer $reader"
equal 'and takes it' "$code" 200
request POST /v1/tokens -H "Authorization: Bearer $reader" -H 'Content-Type: application/json' --data '{"scopes":["admin"]}'
equal 'but not for everything' "$code" 403
"$build/onpd" token list --data "$data" >/dev/null 2>"$work/err"
equal 'not while the server runs' $? 1
stop_onpd
check 'when it was used is noted' sh -c "'$build/onpd' token list --data '$data' | grep '$reader_id' | grep -qE '$before|$(date -u +%Y-%m-%d)'"
"$build/onpd" token revoke "$reader_id" --data "$data"
equal 'revoke' $? 0
start_onpd "$data" --drain 1
request GET /v1/jobs -H "Authorization: Bearer $reader"
equal 'revoked' "$code" 401
stop_onpd
"$build/onpd" --listen 0.0.0.0:0 --data "$work/other" 2>"$work/err"
equal 'open to others is refused' $? 2

# --- a resumable upload over a kill and a restart ---
forge
data=$work/second
start_onpd "$data" --drain 1
size=$(wc -c <"$model")
request POST /v1/uploads -H "$tus" -H "Upload-Length: $size" -H "Upload-Metadata: kind $(printf model | base64)"
equal 'begin an upload' "$code" 201
upload=$(tr -d '\r' <"$headers" | sed -n 's/^location: //Ip')
head -c 2000 "$model" >"$work/first"
request PATCH "$upload" -H "$tus" -H "$piece" -H 'Upload-Offset: 0' --data-binary "@$work/first"
equal 'first piece' "$code" 204
# A piece that is still on its way when the daemon is killed: the pipe stays open until then.
mkfifo "$work/pipe"
curl -sS -m "$limit" -o /dev/null -X PATCH -H "$tus" -H "$piece" -H 'Upload-Offset: 2000' -T - "$url$upload" <"$work/pipe" 2>/dev/null &
exec 4>"$work/pipe"
tail -c +2001 "$model" | head -c 1000 >&4
sleep 1
kill -9 "$onpd_pid"
wait "$onpd_pid" 2>/dev/null
exec 4>&-
start_onpd "$data" --drain 1
at=$(offset "$upload")
equal 'what was counted is there after kill -9' "$at" 2000
tail -c "+$((at + 1))" "$model" >"$work/rest"
request PATCH "$upload" -H "$tus" -H "$piece" -H "Upload-Offset: $at" --data-binary "@$work/rest"
equal 'the rest' "$code" 204
request POST "$upload/complete"
equal 'complete' "$code" 201
model_id=$(json .id)
equal 'it is the model' "$(json .sha256)" "$(sha256sum <"$model" | cut -d ' ' -f 1)"
request POST "$upload/complete"
equal 'complete again' "$code,$(json .id)" "200,$model_id"
equal 'no piece is left' "$(find "$data/uploads" -type f | wc -l)" 0
request GET "/v1/models/$model_id/graph?layer=0"
equal 'its graph' "$code" 200
check 'has units and edges' is_json "$body" '(.nodes | length) > 0 and (.edges | length) > 0 and .nodes[0].features.l1 > 0'
finish
