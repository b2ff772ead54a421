/* The yardstick of tests/bench/http/run.sh: libmicrohttpd alone, one thread, answering every request with SIZE bytes. Prints its port and
 * serves until its standard input ends. Usage: bare SIZE */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct answer {
    char *bytes;
    size_t size;
};

static enum MHD_Result reply(void *user, struct MHD_Connection *connection, const char *url, const char *method,
                             const char *version, const char *data, size_t *size, void **state) {
    const struct answer *answer = user;
    struct MHD_Response *response;
    enum MHD_Result queued;

    (void)url;
    (void)method;
    (void)version;
    (void)data;
    (void)size;
    if (*state == NULL) { /* the first call is for the header fields only */
        *state = user;
        return MHD_YES;
    }
    response = MHD_create_response_from_buffer(answer->size, answer->bytes, MHD_RESPMEM_PERSISTENT);
    (void)MHD_add_response_header(response, "Content-Type", "application/json");
    queued = MHD_queue_response(connection, 200, response);
    MHD_destroy_response(response);
    return queued;
}

int main(int argc, char **argv) {
    struct answer answer = {NULL, argc > 1 ? strtoul(argv[1], NULL, 10) : 1000};
    struct MHD_Daemon *daemon;
    char end;

    answer.bytes = malloc(answer.size + 1); /* the yardstick is built of nothing else */
    if (answer.bytes == NULL) {
        return 1;
    }
    memset(answer.bytes, 'x', answer.size);
    daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, reply, &answer, MHD_OPTION_END);
    if (daemon == NULL) {
        return 1;
    }
    (void)printf("%u\n", (unsigned)MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    (void)fflush(stdout);
    while (read(STDIN_FILENO, &end, 1) > 0) {
    }
    MHD_stop_daemon(daemon);
    free(answer.bytes); /* of malloc() */
    return 0;
}
