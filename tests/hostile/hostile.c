/* Throws generated bad input at a running onpd: good files cut, turned and lied about; requests with broken framing, tricky paths
 * and odd header fields. Everything is drawn from a seed, so a failure can be made again.
 *
 *   hostile PORT SEED COUNT GOOD.onnx...
 *
 * Each case must be answered: 2xx, or 4xx as a problem with a type; a request that is no HTTP may be answered by libmicrohttpd
 * itself or by an end of the connection. Prints what came and exits with 1 if anything else did. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/mem.h"
#include "common/parse.h"
#include "common/rng.h"
#include "server/data/samples.h"

enum {
    FILES_MAX = 64,
    FILE_MAX = 1 << 22,
    ANSWER_MAX = 1 << 20,
    CASE_MAX = 1 << 23,
    DRIPS = 16,
    CROWD = 10000,
    WAIT_MS = 60000,
    QUIET_MS = 40
};
enum { CODES = 600 };

struct bytes {
    char *data;
    size_t length;
};

struct thrower {
    uint16_t port;
    struct rng rng;
    struct bytes models[FILES_MAX], samples[FILES_MAX];
    size_t model_count, samples_count;
    size_t codes[CODES], closed, waits, cases, wrong;
    struct buf request;
    int drips[DRIPS];
};

static size_t below(struct thrower *t, size_t limit) {
    return (size_t)rng_below(&t->rng, limit);
}

/* One of the texts up to NULL. */
static const char *one_of(struct thrower *t, const char *const *texts) {
    size_t count = 0;
    while (texts[count] != NULL) {
        count++;
    }
    return texts[below(t, count)];
}

/* --- the wire --- */

static int dial(const struct thrower *t) {
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(t->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof to) != 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

/* Sends all and takes what is answered meanwhile: a server that refuses early must not block us. `whole`: until the server ends the
 * connection; else until it is silent for a moment, as a connection may well stay open. false: nothing in time. */
static bool exchange(int fd, const char *data, size_t length, bool whole, char *answer, size_t *got) {
    size_t sent = 0;
    double until = clock_seconds() + (whole ? WAIT_MS : QUIET_MS) / 1000.0;
    *got = 0;
    while (clock_seconds() < until) {
        struct pollfd poller = {.fd = fd, .events = (short)(POLLIN | (sent < length ? POLLOUT : 0))};
        if (poll(&poller, 1, QUIET_MS) <= 0) {
            if (!whole && *got > 0) {
                return true;
            }
            continue;
        }
        if ((poller.revents & POLLOUT) != 0 && sent < length) {
            ssize_t n = send(fd, data + sent, length - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            sent = n > 0 ? sent + (size_t)n : errno == EAGAIN ? sent : length;
            if (sent == length && !whole) {
                (void)shutdown(fd, SHUT_WR);
            }
        }
        if ((poller.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
            ssize_t n = recv(fd, answer + *got, ANSWER_MAX - *got, MSG_DONTWAIT);
            if (n == 0 || (n < 0 && errno != EAGAIN) || *got + (size_t)n >= ANSWER_MAX) {
                return true;
            }
            *got += n > 0 ? (size_t)n : 0;
        }
    }
    return *got > 0;
}

/* The kinds of answers that a case may get. */
enum expectation { ANY_ANSWER, HTTP_ANSWER };

static void complain(struct thrower *t, const char *what, const char *answer) {
    t->wrong++;
    if (t->wrong <= 20) {
        (void)printf("case %zu (%s): got '%.200s'; the request begins '%.300s'\n", t->cases, what, answer,
                     t->request.data != NULL ? t->request.data : "");
    }
}

/* "HTTP/1.1 404 ..." */
static bool status_code(const char *answer, uint64_t *code) {
    char digits[4] = "";
    if (strncmp(answer, "HTTP/1.1 ", 9) != 0 && strncmp(answer, "HTTP/1.0 ", 9) != 0) {
        return false;
    }
    (void)snprintf(digits, sizeof digits, "%.3s", answer + 9);
    return parse_u64(digits, CODES - 1, code);
}

static void throw_it(struct thrower *t, const char *what, enum expectation expectation) {
    char *answer = mem_alloc(ANSWER_MAX + 1, 1);
    size_t got = 0;
    uint64_t code = 0;
    int fd = dial(t);
    t->cases++;
    if (answer == NULL || fd < 0) {
        complain(t, what, "no connection");
        goto end;
    }
    if (!exchange(fd, t->request.data, t->request.length, expectation == HTTP_ANSWER, answer, &got)) {
        /* Half a request: the server waits for the rest until one of its timeouts. */
        if (expectation == HTTP_ANSWER) {
            complain(t, what, "nothing in time");
        }
        t->waits++;
        goto end;
    }
    answer[got] = '\0';
    if (got == 0) {
        t->closed++;
        if (expectation == HTTP_ANSWER) {
            complain(t, what, "end of connection");
        }
        goto end;
    }
    if (!status_code(answer, &code)) {
        complain(t, what, answer);
        goto end;
    }
    t->codes[code]++;
    bool problem = strstr(answer, "application/problem+json") != NULL && strstr(answer, "\"type\"") != NULL;
    bool head = strncmp(t->request.data, "HEAD", 4) == 0;
    /* 505 is libmicrohttpd's word for HTTP/2.0 and the like. */
    if ((code >= 500 && code != 505) || (code >= 400 && expectation == HTTP_ANSWER && !problem && !head)) {
        complain(t, what, answer);
    }
end:
    if (fd >= 0) {
        (void)close(fd);
    }
    mem_free(answer);
}

/* --- files --- */

/* A good file with one kind of damage; `out` has room for twice its length. */
static size_t damage(struct thrower *t, const struct bytes *good, char *out) {
    size_t length = good->length;
    memcpy(out, good->data, length);
    switch (below(t, 7)) {
    case 0: /* cut, at kilobytes and elsewhere */
        return length > 1024 && below(t, 2) == 0 ? 1024 * (1 + below(t, length / 1024)) : below(t, length);
    case 1: /* bits */
        for (size_t i = 1 + below(t, 8); i > 0; i--) {
            out[below(t, length)] ^= (char)(1 << below(t, 8));
        }
        return length;
    case 2: { /* a field that could be a length gets an extreme one */
        static const unsigned char extremes[][10] = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
                                                     {0xff, 0xff, 0xff, 0x7f},
                                                     {0x80, 0x80, 0x80, 0x80, 0x80},
                                                     {0xff, 0xff, 0xff, 0xff, 0x07},
                                                     {0},
                                                     {0x7f}};
        size_t at = below(t, length < 4096 ? length : below(t, 2) == 0 ? 4096 : length);
        const unsigned char *value = extremes[below(t, sizeof extremes / sizeof extremes[0])];
        memcpy(out + at, value, length - at < 10 ? length - at : 10);
        return length;
    }
    case 3: { /* a piece twice */
        size_t at = below(t, length), part = below(t, length - at);
        memcpy(out + at + part, good->data + at, length - at);
        return length + part;
    }
    case 4: { /* a piece missing */
        size_t at = below(t, length), part = below(t, length - at);
        memmove(out + at, out + at + part, length - at - part);
        return length - part;
    }
    case 5: /* noise */
        for (size_t i = below(t, length), end = i + below(t, 64); i < end && i < length; i++) {
            out[i] = (char)below(t, 256);
        }
        return length;
    default: /* more after the end */
        memset(out + length, (int)below(t, 256), length / 2);
        return length + length / 2;
    }
}

static void throw_file(struct thrower *t, const char *path, const struct bytes *good) {
    char *body = mem_alloc(good->length + 1, 2);
    if (body == NULL) {
        t->wrong++;
        return;
    }
    size_t length = damage(t, good, body);
    buf_reset(&t->request);
    (void)buf_printf(&t->request,
                     "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", path,
                     length);
    (void)buf_append(&t->request, body, length);
    mem_free(body);
    throw_it(t, path, HTTP_ANSWER);
}

/* --- requests --- */

static const char *const METHODS[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get", "BREW", NULL};
static const char *const TARGETS[] = {"/v1/models",
                                      "/v1/models/mdl_00000000000000000000000000",
                                      "/v1/jobs",
                                      "/healthz",
                                      "/v1/samples?limit=3",
                                      "/v1/jobs/job_00000000000000000000000000/events",
                                      "/v1/capabilities",
                                      "/ui/",
                                      "/",
                                      "/v1/uploads",
                                      "/../../etc/passwd",
                                      "/ui/../../../etc/passwd",
                                      "/ui/%2e%2e/%2e%2e/etc/passwd",
                                      "/ui/%252e%252e%252fetc%252fpasswd",
                                      "/ui/..%2f..%2fetc%2fpasswd",
                                      "/ui/%c0%ae%c0%ae/x",
                                      "/v1/models/%00",
                                      "/v1/models/..",
                                      "//v1//models",
                                      "/v1/models/./x",
                                      "/v1/models%2fmdl_1",
                                      "/v1/models?limit=-1",
                                      "/v1/models?limit=99999999999999999999",
                                      "/v1/models?after=%ff%fe",
                                      "/v1/jobs?state=%27%20or%201=1--",
                                      "/v1/jobs?label=a:b&label=",
                                      "/v1/models?&&&&===&",
                                      "/v1/models?%",
                                      "/v1/models?%zz=1",
                                      "http://localhost/v1/models",
                                      "http://evil.example/v1/models",
                                      "*",
                                      "v1/models",
                                      "/v1/jobs/\x7f/result",
                                      "/metrics/../v1",
                                      "/v1/jobs/job_00000000000000000000000000/artifacts/..%2f..%2fonp.db",
                                      "/v1/jobs/x/artifacts/../../../onp.db",
                                      NULL};
static const char *const FIELDS[] = {"Range: bytes=0-",
                                     "Range: bytes=9-1",
                                     "Range: bytes=99999999999999999999-",
                                     "Range: lines=1-2",
                                     "Range: bytes=0-1,5-6,9-",
                                     "If-None-Match: \"",
                                     "If-None-Match: W/\"a\", *",
                                     "If-Match: x",
                                     "If-Range: \"a",
                                     "Idempotency-Key: ",
                                     "Idempotency-Key: \x01",
                                     "Content-Digest: sha-256=:AAAA:",
                                     "Content-Digest: sha-256=:!!!!:, x",
                                     "Content-Type: text/plain",
                                     "Content-Type: application/json; charset=utf-7",
                                     "Content-Encoding: gzip",
                                     "Accept: text/event-stream",
                                     "Last-Event-ID: -1",
                                     "Last-Event-ID: 99999999999999999999",
                                     "X-Request-Id: a b",
                                     "X-Request-Id: \r\n x",
                                     "Authorization: Bearer x",
                                     "Authorization: Basic",
                                     "Tus-Resumable: 0.2",
                                     "Upload-Offset: -1",
                                     "Upload-Length: 99999999999999999999",
                                     "Upload-Metadata: name !!!",
                                     "Expect: 100-continue",
                                     "Expect: 200-maybe",
                                     "Connection: upgrade",
                                     "Upgrade: h2c",
                                     "Transfer-Encoding: gzip, chunked",
                                     "Transfer-Encoding: chunked",
                                     "Content-Length: 5",
                                     "Content-Length: 5, 6",
                                     "Content-Length: +5",
                                     "Content-Length: -5",
                                     "Content-Length: 0x5",
                                     "Content-Length: 99999999999999999999",
                                     "Host: other",
                                     "Host: a@b",
                                     "Host:",
                                     " folded: line",
                                     "\tfolded",
                                     "NoColon",
                                     ": empty",
                                     "Bad Name: x",
                                     "Name\x01: x",
                                     "X: \xff\xfe",
                                     "X: a\rb",
                                     "Origin: http://evil.example",
                                     "Cookie: a=b",
                                     NULL};
static const char *const VERSIONS[] = {"HTTP/1.1", "HTTP/1.1",   "HTTP/1.1", "HTTP/1.0",       "HTTP/0.9",
                                       "HTTP/2.0", "HTTP/1.1 x", "",         "HTTP/9999999.1", NULL};
static const char *const ENDS[] = {"\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", NULL};
static const char *const BODIES[] = {
    "",
    "{",
    "{}",
    "[]",
    "null",
    "{\"model_id\":1}",
    "{\"model_id\":\"../..\",\"samples_id\":\"\"}",
    "{\"model_id\":\"mdl_00000000000000000000000000\",\"samples_id\":\"smp_0\",\"seed\":1e400}",
    "{\"a\":1,\"a\":2}",
    "{\"labels\":{\"\\u0000\":\"\\ud800\"}}",
    "\xff\xfe{\0}",
    "5\r\nhello\r\n0\r\n\r\n",
    "FFFFFFFFFFFFFFFFF\r\nx",
    "-1\r\n",
    "0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
    "5;ext=\"\r\n",
    NULL};

static void add_body(struct thrower *t) {
    if (below(t, 8) == 0) { /* deep or long */
        const char *opening = below(t, 2) == 0 ? "[" : "{\"a\":";
        for (size_t i = 1 + below(t, 60000); i > 0; i--) {
            (void)buf_append_text(&t->request, opening);
        }
        return;
    }
    (void)buf_append_text(&t->request, one_of(t, BODIES));
}

static void throw_request(struct thrower *t) {
    const char *end = one_of(t, ENDS);
    size_t fields = below(t, 5);
    buf_reset(&t->request);
    (void)buf_printf(&t->request, "%s %s %s%s", one_of(t, METHODS), one_of(t, TARGETS), one_of(t, VERSIONS), end);
    if (below(t, 8) != 0) {
        (void)buf_printf(&t->request, "Host: localhost%s", end);
    }
    for (size_t i = 0; i < fields; i++) {
        (void)buf_printf(&t->request, "%s%s", one_of(t, FIELDS), below(t, 16) == 0 ? one_of(t, ENDS) : end);
    }
    switch (below(t, 24)) {
    case 0: /* too many */
        for (size_t i = 0; i < 200; i++) {
            (void)buf_printf(&t->request, "X-%zu: y%s", i, end);
        }
        break;
    case 1: /* too long */
        (void)buf_append_text(&t->request, "X-Long: ");
        for (size_t i = 1000 + below(t, 100000); i > 0; i--) {
            (void)buf_append(&t->request, "z", 1);
        }
        (void)buf_append_text(&t->request, end);
        break;
    case 2: /* NUL */
        (void)buf_append(&t->request, "X: a\0b\r\n", 8);
        break;
    case 3: /* no end: half a request, then the end of the connection */
        throw_it(t, "half a request", ANY_ANSWER);
        return;
    default:
        break;
    }
    (void)buf_append_text(&t->request, end);
    add_body(t);
    if (below(t, 6) == 0 && t->request.length > 0) {
        t->request.data[below(t, t->request.length)] = (char)below(t, 256);
    }
    throw_it(t, "request", ANY_ANSWER);
}

/* --- connections --- */

static void start_drips(struct thrower *t) {
    for (size_t i = 0; i < DRIPS; i++) {
        t->drips[i] = dial(t);
        if (t->drips[i] >= 0) {
            (void)send(t->drips[i], "GET / HTTP/1.1\r\nHost: ", 22, MSG_NOSIGNAL);
        }
    }
}

static void drip(struct thrower *t) {
    for (size_t i = 0; i < DRIPS; i++) {
        if (t->drips[i] >= 0 && send(t->drips[i], "a", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
            (void)close(t->drips[i]);
            t->drips[i] = -1;
        }
    }
}

/* Begins a connection and does not wait for it: beyond what the server takes and its queue holds none is answered. */
static int dial_only(const struct thrower *t) {
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(t->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

/* Far more connections than the server takes; whoever asks afterwards is served. */
static void crowd(struct thrower *t) {
    struct pollfd *all = mem_calloc(CROWD, sizeof *all);
    size_t count = 0, connected = 0;
    while (all != NULL && count < CROWD && (all[count].fd = dial_only(t)) >= 0) {
        all[count++].events = POLLOUT;
    }
    (void)usleep(500 * 1000);
    if (all != NULL && poll(all, count, 0) > 0) {
        for (size_t i = 0; i < count; i++) {
            connected += (all[i].revents & (POLLOUT | POLLHUP | POLLERR)) == POLLOUT;
        }
    }
    for (size_t i = 0; i < count; i++) {
        (void)close(all[i].fd);
    }
    mem_free(all);
    (void)printf("%zu connections begun at once, %zu were made\n", count, connected);
    buf_reset(&t->request);
    (void)buf_append_text(&t->request, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    (void)usleep(500 * 1000);
    throw_it(t, "after the crowd", HTTP_ANSWER);
}

/* --- */

static bool load(struct bytes *files, size_t *count, const char *path) {
    struct error error = {0};
    if (*count == FILES_MAX) {
        return true;
    }
    if (file_read(path, FILE_MAX, &files[*count].data, &files[*count].length, &error) != STATUS_OK ||
        files[*count].length == 0) {
        (void)fprintf(stderr, "%s\n", error.message);
        return false;
    }
    (*count)++;
    return true;
}

/* A small sample set like those of users. */
static bool make_samples(struct thrower *t) {
    enum { COUNT = 16, PIXELS = 3 * 8 * 8 };
    uint8_t pixels[COUNT * PIXELS];
    int32_t labels[COUNT];
    char path[] = "/tmp/onp-hostile-XXXXXX";
    struct error error = {0};
    int fd = mkstemp(path);
    for (size_t i = 0; i < sizeof pixels; i++) {
        pixels[i] = (uint8_t)below(t, 256);
    }
    for (size_t i = 0; i < COUNT; i++) {
        labels[i] = (int32_t)(i % 4);
    }
    const struct samples_source source = {
        .count = COUNT, .channels = 3, .height = 8, .width = 8, .pixels = pixels, .labels = labels};
    bool fine =
        fd >= 0 && samples_save(path, &source, &error) == STATUS_OK && load(t->samples, &t->samples_count, path);
    (void)close(fd);
    (void)unlink(path);
    return fine;
}

static void release(struct thrower *t) {
    for (size_t i = 0; i < t->model_count; i++) {
        mem_free(t->models[i].data);
    }
    for (size_t i = 0; i < t->samples_count; i++) {
        mem_free(t->samples[i].data);
    }
    buf_deinit(&t->request);
    mem_free(t);
}

int main(int argc, char **argv) {
    struct thrower *t = mem_calloc(1, sizeof *t);
    uint64_t port = 0, seed = 0, count = 0;
    if (t == NULL || argc < 5 || !parse_u64(argv[1], 65535, &port) || !parse_u64(argv[2], UINT64_MAX, &seed) ||
        !parse_u64(argv[3], UINT32_MAX, &count)) {
        (void)fprintf(stderr, "usage: hostile PORT SEED COUNT GOOD.onnx...\n");
        return 2;
    }
    t->port = (uint16_t)port;
    rng_seed(&t->rng, seed);
    buf_init(&t->request, CASE_MAX);
    for (int i = 4; i < argc; i++) {
        size_t length = strlen(argv[i]);
        bool onnx = length > 5 && strcmp(argv[i] + length - 5, ".onnx") == 0;
        if (!load(onnx ? t->models : t->samples, onnx ? &t->model_count : &t->samples_count, argv[i])) {
            return 2;
        }
    }
    if (!make_samples(t) || t->model_count == 0) {
        return 2;
    }
    start_drips(t);
    for (uint64_t i = 0; i < count; i++) {
        switch (i % 10) {
        case 0:
        case 1:
            throw_file(t, "/v1/models", &t->models[below(t, t->model_count)]);
            break;
        case 2:
            throw_file(t, "/v1/samples", &t->samples[below(t, t->samples_count)]);
            break;
        default:
            throw_request(t);
            break;
        }
        if (i % 100 == 0) {
            drip(t);
        }
    }
    crowd(t);
    (void)printf("%zu cases:", t->cases);
    for (size_t code = 0; code < CODES; code++) {
        if (t->codes[code] > 0) {
            (void)printf(" %zu x %zu,", code, t->codes[code]);
        }
    }
    (void)printf(" closed x %zu, left waiting x %zu; wrong: %zu\n", t->closed, t->waits, t->wrong);
    const bool fine = t->wrong == 0;
    release(t);
    return fine ? 0 : 1;
}
