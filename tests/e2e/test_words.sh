#!/bin/sh
# One truth about the words of the command line: the manual pages and completions have the commands and options that --help has.
set -u
. tests/e2e/support/lib.sh

# options_of: the long options of a help text.
options_of() {
    sed -n 's/^  *\(-., \)\{0,1\}--\([a-z-]*\).*/\2/p' | sort -u
}

# same NAME A B: two sorted lists.
same() {
    difference=$(diff "$2" "$3" | grep '^[<>]' | tr '\n' ' ')
    equal "$1" "$difference" ''
}

# named_in TEXT: the long options that roff names.
named_in() {
    grep -o '\\-\\-[a-z\\-]*' | sed 's/^\\-\\-//; s/\\-/-/g; s/[\\-]*$//' | sort -u
}

"$onp" --help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' >"$work/commands"
# The paragraphs of .SH COMMANDS, as "command<tab>text".
awk '/^\.SH/ { inside = $2 == "COMMANDS" } !inside { next }
    /^\.TP/ { fresh = 1; next }
    fresh { name = $0; gsub(/^\.[BIR]+ |"/, "", name); sub(/ .*/, "", name); fresh = 0 }
    name != "" { print name "\t" $0 }' docs/man/onp.1 >"$work/paragraphs"
cut -f 1 "$work/paragraphs" | uniq | sort >"$work/documented"
sort "$work/commands" >"$work/sorted"
same 'onp(1) has the commands' "$work/sorted" "$work/documented"
sed -n "s/^ *'\([a-z]*\):.*/\1/p" deploy/completion/_onp | sort >"$work/zsh"
same 'the completion of zsh has the commands' "$work/sorted" "$work/zsh"

# The options that each command has, and none beside them.
awk '/^\.SH/ { inside = /OPTIONS OF EVERY COMMAND/ } inside' docs/man/onp.1 | grep -A 1 '^\.TP' | named_in >"$work/common"
wrong=
for command in $(grep -v serve "$work/commands"); do
    "$onp" "$command" --help | options_of >"$work/has"
    sed -n "s/^$command	//p" "$work/paragraphs" | named_in | cat - "$work/common" | sort -u >"$work/said"
    [ "$command" != version ] || grep -x 'json\|help' "$work/said" >"$work/said.version"
    [ "$command" != version ] || mv "$work/said.version" "$work/said"
    difference=$(diff "$work/has" "$work/said" | grep '^[<>]' | tr '\n' ' ')
    [ -z "$difference" ] || wrong="$wrong $command: $difference"
    for option in $(grep -vxFf "$work/common" "$work/has"); do
        sed -n "/^$command)/,/;;/p" deploy/completion/_onp | grep -qe "--$option" ||
            { sed -n "/^$command)/,/;;/p" deploy/completion/_onp | grep -q '\$job\|{job' &&
                sed -n '/^job=(/,/^)/p' deploy/completion/_onp | grep -qe "--$option"; } || wrong="$wrong zsh: $command --$option"
    done
done
equal 'onp(1) and zsh have the options of each command' "$wrong" ''

if command -v bash >/dev/null 2>&1; then
    # complete_words WORDS...: what bash offers for the last.
    complete_words() {
        bash -c '. deploy/completion/onp.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _onp "$1"; printf "%s\n" "${COMPREPLY[@]}"' \
            bash "$onp" "$@" | sort -u
    }
    complete_words '' | grep -vx 'help\|--help\|--version' >"$work/offered"
    same 'the completion of bash has the commands' "$work/sorted" "$work/offered"
    "$onp" submit --help | options_of | sed 's/^/--/' >"$work/has"
    complete_words submit -- >"$work/offered"
    same 'and the options of a command' "$work/has" "$work/offered"
    equal 'and kinds' "$(complete_words upload --kind m)" model
    equal 'and artifacts' "$(complete_words download job_1 tra)" trace.jsonl
    equal 'and files' "$(complete_words run READ)" README.md
    contains 'and the options of onpd' "$(complete_words serve --tls)" '--tls-cert'
fi

"$build/onpd" --help | options_of >"$work/has"
awk '/^\.SH/ { inside = $2 == "OPTIONS" } inside' docs/man/onpd.8 | grep -A 1 '^\.TP' | named_in >"$work/said"
same 'onpd(8) has the options' "$work/has" "$work/said"
for word in token backup restore; do
    check "onpd(8) has onpd $word" grep -q "^\.B onpd $word" docs/man/onpd.8
done
if command -v man >/dev/null 2>&1; then
    for page in docs/man/onp.1 docs/man/onpd.8; do
        equal "$page is clean" "$(LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 "$page" 2>&1 >/dev/null)" ''
    done
fi
finish
