# Functions that the house does without, and words that say a thing is not finished. Comments and strings are taken out
# first. Allocation belongs to common/mem.c; where a library wants its own free(), a comment on the line says so.

BEGIN {
    ban("strcpy stpcpy strcat strncpy strncat sprintf vsprintf gets strtok", "use snprintf(), memcpy() or common/buf.h")
    ban("atoi atol atoll atof scanf sscanf fscanf vsscanf vscanf vfscanf", "use common/parse.h")
    ban("alloca", "use common/mem.h")
    ban("rand srand random srandom drand48 rand_r", "use common/rng.h")
    ban("system popen tmpnam tempnam mktemp", "not safe")
    ban("gmtime localtime ctime asctime strerror", "use the _r form")
    ban("malloc calloc realloc reallocarray free strdup strndup asprintf vasprintf aligned_alloc posix_memalign memalign",
        "use common/mem.h, or say on the line whose allocation it is")
    ban("exit abort quick_exit", "library code returns errors")
    split("malloc calloc realloc reallocarray free strdup strndup asprintf vasprintf aligned_alloc posix_memalign memalign",
        list, " ")
    for (i in list) {
        allocation[list[i]] = 1
    }
    leaving["exit"] = leaving["abort"] = leaving["quick_exit"] = 1
}

function ban(names, reason,    parts, n, i) {
    n = split(names, parts, " ")
    for (i = 1; i <= n; i++) {
        why[parts[i]] = reason
    }
}

function complain(text) {
    printf "%s:%d: %s\n", FILENAME, FNR, text
    bad = 1
}

# The line without strings, characters and comments; `in_comment` carries over lines.
function strip(line,    at) {
    if (in_comment) {
        at = index(line, "*/")
        if (at == 0) {
            return ""
        }
        line = substr(line, at + 2)
        in_comment = 0
    }
    gsub(/'\\?"'/, "0", line) # a quote as a character opens no string
    gsub(/"([^"\\]|\\.)*"/, "\"\"", line)
    gsub(/'([^'\\]|\\.)+'/, "0", line)
    sub(/\/\/.*$/, "", line)
    while ((at = index(line, "/*")) > 0) {
        rest = substr(line, at + 2)
        line = substr(line, 1, at - 1)
        at = index(rest, "*/")
        if (at == 0) {
            in_comment = 1
            return line
        }
        line = line " " substr(rest, at + 2)
    }
    return line
}

FNR == 1 {
    in_comment = 0
    in_tests = FILENAME ~ /^tests\//
    is_main = FILENAME ~ /\/main\.c$/
}

/(^|[^A-Za-z])(TODO|FIXME|XXX|HACK)([^A-Za-z]|$)/ { complain("unfinished: " $0) }

{
    code = strip($0)
    while (match(code, /[A-Za-z_][A-Za-z0-9_]*[ ]*\(/)) {
        name = substr(code, RSTART, RLENGTH - 1)
        before = RSTART > 1 ? substr(code, RSTART - 1, 1) : ""
        code = substr(code, RSTART + RLENGTH)
        sub(/[ ]+$/, "", name)
        if (!(name in why) || before == "." || before == ">") {
            continue
        }
        if (name in allocation && (FILENAME == "common/mem.c" || $0 ~ /\/[*\/]/)) {
            continue
        }
        if (name in leaving && (in_tests || is_main)) {
            continue
        }
        complain(name "(): " why[name])
    }
}

END { exit bad }
