# bash completion of onp. Install as /usr/share/bash-completion/completions/onp. Commands and options come from onp itself.
_onp() {
    local onp=$1 cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} words
    local commands='/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' options='s/^  *\(-., \)\{0,1\}\(--[a-z-]*\).*/\2/p'
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ] || [ "$command" = help ]; then
        words="$("$onp" --help 2>/dev/null | sed -n "$commands") help --help --version"
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
        return
    fi
    words=
    case $prev in
    --kind | -k) words='model samples' ;;
    --state) words='queued starting running cancelling succeeded failed cancelled interrupted' ;;
    --backend) words='auto blas dnnl' ;;
    --scopes) words='read write metrics admin' ;;
    --samples | --probe | --output | -o | --report | -r | --html)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    *)
        case $command:$cur in
        *:-*) words=$("$onp" "$command" --help 2>/dev/null | sed -n "$options") ;;
        list:*) words='jobs models samples' ;;
        tokens:*) words='list create revoke' ;;
        download:*) words='model.onnx report.json mask.json trace.jsonl triggers.json units.json' ;;
        esac
        ;;
    esac
    if [ -n "$words" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}
complete -o filenames -o bashdefault -F _onp onp
