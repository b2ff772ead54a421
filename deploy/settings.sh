#!/bin/sh
# Prints deploy/onpd.md, the explanation of every setting, from what `onpd --help` says: deploy/settings.sh build/onpd > deploy/onpd.md
set -eu
onpd=$1
cat <<'TEXT'
# Settings of onpd

Made by `deploy/settings.sh` from `onpd --help`; a test compares the two. Each setting is a flag, an environment variable and a member of
the configuration file (`onpd.json` beside this file); the flag wins over the environment, which wins over the file. Unknown names are
refused. `onpd --check` checks without starting, `onpd --print-config` shows what holds. `null` in the file means the default. Sizes
may be given as `"64k"`, `"256M"`, `"2G"`. Tokens and certificate are read again on SIGHUP, all else at the start.

| in onpd.json | flag | environment | what it is |
| --- | --- | --- | --- |
TEXT
"$onpd" --help | awk '
    function row() {
        if (flag == "") return
        key = substr(flag, 3); sub(/ .*/, "", key)
        if (key != "config" && !over) {
            member = key; gsub(/-/, "_", member)
            printf "| `%s` | `%s` | `ONP_%s` | %s |\n", member, flag, toupper(member), help
        } else over = 1
    }
    /^ *(-[a-zA-Z], )?--/ {
        row()
        sub(/^ *(-[a-zA-Z], )?/, "")
        n = match($0, /  +/)
        if (n) { flag = substr($0, 1, n - 1); help = substr($0, n + RLENGTH) } else { flag = $0; help = "" }
        next
    }
    /^ +[^ ]/ && flag != "" { sub(/^ +/, ""); help = help (help == "" ? "" : " ") $0 }
    END { row() }'
