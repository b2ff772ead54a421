#!/bin/sh
# The dashboard in a real browser: Debian's chromium, driven by playwright-core, against onpd and a forged model.
# `make test-browser` starts this; nothing is installed outside the build folder.
set -u
. tests/e2e/support/lib.sh

chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
for tool in node npm "$chromium"; do
    if [ -z "$tool" ] || ! command -v "$tool" >/dev/null 2>&1; then
        printf 'skip - the dashboard in a browser: %s is not installed\n' "${tool:-chromium}"
        exit 0
    fi
done

folder=$build/browser
mkdir -p "$folder" || exit 1
cp tests/browser/*.mjs tests/browser/package.json tests/browser/package-lock.json "$folder/" || exit 1
if ! cmp -s "$folder/package-lock.json" "$folder/installed.json"; then
    if ! (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund >npm.log 2>&1); then
        tail -n 5 "$folder/npm.log"
        printf 'skip - the dashboard in a browser: its packages cannot be installed\n'
        exit 0
    fi
    cp "$folder/package-lock.json" "$folder/installed.json"
fi
forge
cd "$folder" || exit 1
ONPD=$build/onpd CHROMIUM=$chromium WORK=$work MODEL=$model CLEAN=$clean PROBE=$probe SHOTS=$folder/shots \
    node main.mjs || failures=1
[ "$failures" -eq 0 ]
