# Files of more than 600 lines and functions of more than 80 have two jobs. The sources are formatted, so a function
# begins at its last line in column 0 before ") {" and ends at "}" in column 0.

function complain(line, text) {
    printf "%s:%d: %s\n", name, line, text
    bad = 1
}

function end_of_file() {
    if (name != "" && lines > 600) {
        complain(1, lines " lines, expected at most 600")
    }
}

FNR == 1 {
    end_of_file()
    name = FILENAME
    inside = 0
}

{ lines = FNR }

!inside && /^[A-Za-z_]/ { start = FNR; head = $0 }

!inside && /\) \{$/ && head ~ /\(/ { inside = 1 }

inside && /^\}/ {
    inside = 0
    length_of_it = FNR - start + 1
    if (length_of_it > 80) {
        sub(/\(.*/, "()", head)
        complain(start, head ": " length_of_it " lines, expected at most 80")
    }
}

END {
    end_of_file()
    exit bad
}
