# bash completion of onp. Install as /usr/share/bash-completion/completions/onp.
_onp() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} common='--server --token --json --quiet --help'
    local commands='run serve upload submit status watch wait cancel result download list report compare capabilities version'
    local job='--samples --probe --method --set --seed' options=
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands help --help --version" -- "$cur")
        return
    fi
    case $prev in
    --kind | -k)
        mapfile -t COMPREPLY < <(compgen -W 'model samples' -- "$cur")
        return
        ;;
    --state)
        mapfile -t COMPREPLY < <(compgen -W 'queued starting running cancelling succeeded failed cancelled interrupted' -- "$cur")
        return
        ;;
    --samples | --probe | --output | -o | --report | -r)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    esac
    case ${COMP_WORDS[1]} in
    run) options="$job --backend --threads --output --report --fail-on $common" ;;
    compare) options="--samples --probe --methods --set --seed --threads $common" ;;
    submit) options="$job --label --priority --deadline --watch $common" ;;
    upload) options="--kind --name $common" ;;
    wait) options="--fail-on --timeout $common" ;;
    result) options="--fail-on $common" ;;
    download) options="--output $common" ;;
    list) options="--state --method --limit $common" ;;
    status | watch | cancel | report | capabilities) options=$common ;;
    version) options='--json --help' ;;
    help) options=$commands ;;
    esac
    case ${COMP_WORDS[1]}:$cur in
    list:[!-]* | list:) mapfile -t COMPREPLY < <(compgen -W 'jobs models samples' -- "$cur") ;;
    download:[!-]*) mapfile -t COMPREPLY < <(compgen -W 'model.onnx report.json mask.json trace.jsonl triggers.json units.json' -- "$cur") ;;
    help:* | *:-*) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur") ;;
    *) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    esac
}
complete -o filenames -o bashdefault -F _onp onp
