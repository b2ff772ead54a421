#!/bin/sh
# A full disk and a read-only one: a clear refusal, nothing corrupt, and all well again afterwards. Needs root, for a small tmpfs.
set -u
. tests/e2e/support/lib.sh
disk=$work/disk
mkdir "$disk"
if ! mount -t tmpfs -o size=24m tmpfs "$disk" 2>/dev/null; then
    echo 'skip - full and read-only disks: this user may not mount a tmpfs'
    exit 0
fi
release() {
    stop_onpd
    umount "$disk" 2>/dev/null
    clean_up
}
trap release EXIT
forge
start_onpd "$disk/data" --min-free 1M --drain 0
upload samples "$clean"
equal 'samples go up' "$code" 201
samples_id=$id
request GET /readyz
equal 'it is ready' "$code" 200

# fill: leaves less than 64 kB, in a file that nobody needs.
fill() {
    dd if=/dev/zero of="$disk/ballast" bs=64k 2>/dev/null
    dd if=/dev/zero of="$disk/ballast2" bs=4k 2>/dev/null
}

# --- full ---

fill
request POST '/v1/models?name=m' --data-binary "@$model"
equal 'an upload to a full disk is refused' "$code" 503
equal 'with a problem document' "$(json .status)" 503
contains 'that names the disk' "$(json .detail)" disk
check 'and Retry-After' grep -qi '^retry-after:' "$headers"
await 60 answers /readyz 503
equal 'it says that it is not ready' "$code" 503
contains 'and why' "$(json .detail)" disk
request GET "/v1/samples/$samples_id/content"
check 'what is there can be read' cmp -s "$body" "$clean"
request GET /healthz
equal 'it lives' "$code" 200
rm -f "$disk/ballast" "$disk/ballast2"
await 60 answers /readyz 200
equal 'with space again it is ready' "$code" 200
upload models "$model"
equal 'and uploads work' "$code" 201
model_id=$id

# --- full while a job runs ---

submit "$fast_settings" 1
wait_state "$job" 'running succeeded' 300
fill
sleep 4
rm -f "$disk/ballast" "$disk/ballast2"
wait_end "$job" 600
equal 'a job outlasts a disk that is full for a while' "$state" succeeded

stop_onpd

# --- read-only: as a user whom the folder refuses, because files that are open keep a disk from becoming read-only ---

chown -R 65534:65534 "$disk/data"
chmod 755 "$work" "$disk"
start_onpd_as_nobody() {
    rm -f "$work/ready"
    setpriv --reuid 65534 --regid 65534 --clear-groups "$ONPD" --listen 127.0.0.1:0 --data "$disk/data" --min-free 1M \
        --print-port --drain 0 >"$work/port" 2>>"$work/onpd.log" &
    onpd_pid=$!
    await 60 test -s "$work/port"
    url=http://127.0.0.1:$(cat "$work/port")
}
if setpriv --reuid 65534 --regid 65534 --clear-groups "$ONPD" --version >/dev/null 2>&1; then
    start_onpd_as_nobody
    chmod -R a-w "$disk/data/tmp" "$disk/data/blobs" "$disk/data/attempts" "$disk/data"
    request POST '/v1/models?name=n' --data-binary "@$clean"
    equal 'an upload to a read-only folder is refused' "$code" 503
    await 60 answers /readyz 503
    equal 'it is not ready' "$code" 503
    contains 'and says why' "$(json .detail)" read-only
    request GET "/v1/jobs/$job/result"
    equal 'results can be read' "$code" 200
    chmod -R u+w "$disk/data"
    await 60 answers /readyz 200
    equal 'it recovers' "$code" 200
    upload samples "$probe"
    equal 'and takes uploads' "$code" 201
    stop_onpd
else
    echo 'skip - read-only folder: another user cannot run the program'
fi

# --- nothing is corrupt ---

bad=$(find "$disk/data/blobs" -type f | while read -r file; do
    [ "$(sha256sum <"$file" | cut -d ' ' -f 1)" = "${file##*/}" ] || echo "$file"
done)
equal 'every blob is what its name says' "$bad" ''
# A backup checks the database and every blob that it names.
"$ONPD" backup "$work/backup" --data "$disk/data" >"$work/out" 2>&1
equal 'the database is whole' "$?" 0
finish
