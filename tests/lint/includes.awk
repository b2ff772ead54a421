# Checks that a file includes only what its level may: the table of the architecture, the same as DEPS_* in the
# Makefile. Includes with quotes are root-relative; libraries that only one module may know are named below.

BEGIN {
    allow("common", "")
    allow("server/nn", "common")
    allow("server/store", "common")
    allow("server/http", "common")
    allow("server/onnx", "common server/nn")
    allow("server/data", "common server/nn")
    allow("server/graph", "common server/nn server/data")
    allow("server/prune", "common server/nn server/data server/graph")
    allow("server/expose", "common server/nn server/data")
    allow("server/evaluate", "common server/nn server/data")
    allow("server/agent", "common server/nn server/graph")
    below_mitigate = "common server/nn server/onnx server/data server/graph server/prune server/expose " \
        "server/evaluate server/agent"
    allow("server/mitigate", below_mitigate)
    allow("server/baselines", below_mitigate " server/mitigate")
    allow("server/jobs", "common server/store server/mitigate")
    allow("server/api", "common server/http server/jobs server/store")
    allow("client", "common")
    anything["server"] = 1
    anything["tests"] = 1

    only("sqlite3.h", "server/store")
    only("microhttpd.h", "server/http")
    only("uv.h", "server/http server")
    only("zip.h", "server/data")
    only("spng.h", "server/data")
    only("turbojpeg.h", "server/data")
    only("protobuf-c/protobuf-c.h", "server/onnx")
    only("onnx.pb-c.h", "server/onnx")
    only("curl/curl.h", "client")
    only("seccomp.h", "server/jobs")
    only("sodium.h", "common")
    only("nettle/base64.h", "server/api")
    only("nettle/sha1.h", "server/api")
    only("nettle/sha2.h", "common server/api")
}

function allow(module, list,    parts, n, i) {
    known[module] = 1
    n = split(list, parts, " ")
    for (i = 1; i <= n; i++) {
        allowed[module, parts[i]] = 1
    }
    allowed[module, module] = 1
}

function only(header, list,    parts, n, i) {
    owned[header] = list
    n = split(list, parts, " ")
    for (i = 1; i <= n; i++) {
        owner[header, parts[i]] = 1
    }
}

# "server/nn/tensor.c" -> "server/nn", "server/app.c" -> "server", "tests/unit/nn/x.c" -> "tests"
function module_of(path,    parts, n) {
    n = split(path, parts, "/")
    if (parts[1] == "server" && n > 2) {
        return "server/" parts[2]
    }
    return parts[1]
}

function complain(text) {
    printf "%s:%d: %s\n", FILENAME, FNR, text
    bad = 1
}

FNR == 1 {
    module = module_of(FILENAME)
    if (!(module in known) && !(module in anything)) {
        complain("folder " module " is not in the table of tests/lint/includes.awk")
    }
}

/^[ ]*#[ ]*include/ {
    name = $0
    quoted = name ~ /include[ ]*"/
    sub(/^[^"<]*["<]/, "", name)
    sub(/[">].*$/, "", name)
    if (name in owned && module != "tests" && !((name, module) in owner)) {
        complain(name " may be included only in " owned[name] ", not in " module)
    }
    if (!quoted || name in owned) {
        next
    }
    if (name !~ /\//) {
        complain("\"" name "\": includes with quotes start at the root of the tree")
        next
    }
    target = module_of(name)
    if (!(module in anything) && !((module, target) in allowed)) {
        complain(module " may not include " target " (\"" name "\")")
    }
    if (name ~ /\.c"?$/) {
        complain("a .c file is included: " name)
    }
}

END { exit bad }
