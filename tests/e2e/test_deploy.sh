#!/bin/sh
# The files of deploy/: they are what they say, they fit the program, and the pipeline step works.
set -u
. tests/e2e/support/lib.sh

# --- settings ---

check 'onpd.json is accepted' "$ONPD" --check --config deploy/onpd.json
keys() { jq -r 'keys[]' "$1" | sort; }
"$ONPD" --print-config >"$work/config.json"
keys "$work/config.json" >"$work/known"
keys deploy/onpd.json >"$work/named"
check 'onpd.json names every setting' cmp -s "$work/known" "$work/named"
sed -n 's/^| `\([a-z_]*\)` | .*/\1/p' deploy/onpd.md | sort >"$work/explained"
check 'onpd.md explains every setting' cmp -s "$work/known" "$work/explained"
deploy/settings.sh "$ONPD" >"$work/onpd.md"
check 'onpd.md says what --help says' cmp -s "$work/onpd.md" deploy/onpd.md
printf '{"wokers": 2}' >"$work/wrong.json"
"$ONPD" --check --config "$work/wrong.json" 2>"$work/out"
equal 'an unknown key is refused' "$?" 2
contains 'by its name' "$(cat "$work/out")" wokers

# --- what is installed ---

make --no-print-directory BUILD="${ONP_BUILD:-build}" install-files DESTDIR="$work/root" PREFIX=/usr >"$work/install" 2>&1 || cat "$work/install"
for file in share/onp/onpd.json share/onp/onpd.md share/onp/grafana/onpd.json share/onp/prometheus/onpd.rules.yaml \
    share/onp/nginx/onpd.conf share/onp/pipeline/repair.sh \
    share/onp/pipeline/repair.py share/onp/pipeline/github-actions.yaml share/onp/pipeline/argo.yaml share/bash-completion/completions/onp \
    share/zsh/vendor-completions/_onp lib/systemd/system/onpd.service share/doc/onp/export.md share/doc/onp/operations.md; do
    check "$file is installed" test -s "$work/root/usr/$file"
done
check 'the unit starts the program where it is installed' grep -q '^ExecStart=/usr/bin/onpd ' "$work/root/usr/lib/systemd/system/onpd.service"
if command -v systemd-analyze >/dev/null 2>&1; then
    # The program of the unit is not installed here; all else that systemd has to say is a mistake.
    unit_words=$(systemd-analyze verify deploy/onpd.service 2>&1 | grep -v 'is not executable')
    equal 'systemd understands the unit' "$unit_words" ''
else
    echo 'skip - systemd looks at the unit: systemd-analyze is not installed'
fi

# --- monitoring: every figure that is asked for is given ---

forge
start_onpd "$work/data" --drain 0
upload models "$model"
request GET /metrics
sed -n 's/^# TYPE \([a-z_]*\) .*/\1/p' "$body" | sort -u >"$work/given"
for file in deploy/prometheus/onpd.rules.yaml deploy/grafana/onpd.json; do
    missing=$(grep -o 'onpd_[a-z_]*' "$file" | sed 's/_bucket$//' | sort -u | comm -23 - "$work/given" | tr '\n' ' ')
    equal "$file asks for figures that there are" "$missing" ''
done
check 'the dashboard is JSON' jq -e '.panels | length > 5' deploy/grafana/onpd.json
if command -v promtool >/dev/null 2>&1; then
    check 'promtool accepts the alerts' promtool check rules deploy/prometheus/onpd.rules.yaml
fi

# --- nginx in front of it ---

if command -v nginx >/dev/null 2>&1; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x -addext 'subjectAltName=IP:127.0.0.1' \
        -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
    port=$((20000 + $$ % 20000))
    {
        echo "daemon off; pid $work/nginx.pid; error_log $work/nginx.log; events {}"
        echo "http { access_log off; client_body_temp_path $work/nb; proxy_temp_path $work/np; fastcgi_temp_path $work/nf;"
        echo "uwsgi_temp_path $work/nu; scgi_temp_path $work/ns;"
        sed -e "s#server onpd:8080#server ${url#http://}#" -e "s#listen 443#listen 127.0.0.1:$port#" \
            -e "s#/etc/nginx/tls#$work#" deploy/nginx/onpd.conf
        echo '}'
    } >"$work/nginx.conf"
    chmod 755 "$work"
    nginx -e "$work/nginx.log" -c "$work/nginx.conf" 2>/dev/null &
    nginx_pid=$!
    await 60 test -s "$work/nginx.pid"
    code=$(curl -sS -m "$limit" --cacert "$work/cert.pem" -o "$work/body" -w '%{http_code}' --data-binary "@$model" "https://127.0.0.1:$port/v1/models")
    equal 'an upload through nginx works' "$code" 200
    kill "$nginx_pid"
    wait "$nginx_pid" 2>/dev/null
else
    echo 'skip - nginx in front: it is not installed'
fi

# --- the pipeline's step ---

ONP_SERVER=$url PATH=$build:$PATH PARAMETERS=$fast_settings
export ONP_SERVER PATH PARAMETERS
MAX_ACCURACY_DROP=1 MAX_ASR=1 deploy/pipeline/repair.sh "$model" "$clean" "$work/repaired.onnx" "$probe" >"$work/out" 2>"$work/first"
equal 'the step of a pipeline succeeds' "$?" 0
check 'and leaves the repaired model' test -s "$work/repaired.onnx"
MAX_ACCURACY_DROP=-1 deploy/pipeline/repair.sh "$model" "$clean" "$work/repaired.onnx" "$probe" >"$work/out" 2>"$work/second"
equal 'a gate that is not met stops it' "$?" 3
equal 'run again it submits no second job' "$(grep '^job ' "$work/second")" "$(grep '^job ' "$work/first")"
unset ONP_SERVER PARAMETERS
finish
