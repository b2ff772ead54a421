/* Sockets, and one libmicrohttpd daemon for each, driven by the loop: its epoll descriptor is polled, its next timeout
 * becomes a timer, and both call MHD_run(). */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"
#include "server/http/http_internal.h"

enum { LISTEN_BACKLOG = 512, TIMEOUT_MAX_MS = 60000, ROUNDS_MAX = 8 };

static void run_daemon(struct http_listener *listener);

static void on_timer(uv_timer_t *timer) {
    run_daemon(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    (void)status;
    (void)events;
    run_daemon(poll->data);
}

static void run_daemon(struct http_listener *listener) {
    MHD_UNSIGNED_LONG_LONG timeout = 0;
    bool timed = true;

    if (listener->daemon == NULL) {
        return;
    }
    /* What is left of a body is read on without asking the loop in between, but not for ever: it has other things to see to. */
    for (int round = 0; round < ROUNDS_MAX && timed && timeout == 0; round++) {
        (void)MHD_run(listener->daemon);
        timed = MHD_get_timeout(listener->daemon, &timeout) == MHD_YES;
    }
    log_lines_write(&listener->server->lines);
    if (timed) {
        (void)uv_timer_start(&listener->timer, on_timer, timeout < TIMEOUT_MAX_MS ? timeout : TIMEOUT_MAX_MS, 0);
    } else {
        (void)uv_timer_stop(&listener->timer);
    }
}

void http_listener_kick(struct http_listener *listener) {
    if (listener->timed && listener->daemon != NULL) {
        (void)uv_timer_start(&listener->timer, on_timer, 0, 0);
    }
}

static void log_library(void *user, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));
static void log_library(void *user, const char *format, va_list arguments) {
    char text[512];

    (void)user;
    (void)vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\r\n")] = '\0';
    log_event(LOG_DEBUG, "http_library", "%s", text);
}

/* gnutls knows nothing of us but the connection that libmicrohttpd gave it. */
static int give_certificate(gnutls_session_t session, const gnutls_datum_t *authorities, int authority_count,
                            const gnutls_pk_algorithm_t *algorithms, int algorithm_count, gnutls_pcert_st **chain,
                            unsigned *count, gnutls_privkey_t *key) {
    struct MHD_Connection *connection = gnutls_session_get_ptr(session);
    const union MHD_ConnectionInfo *info =
        connection == NULL ? NULL : MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    const struct http_connection *context = info == NULL ? NULL : info->socket_context;

    (void)authorities;
    (void)authority_count;
    (void)algorithms;
    (void)algorithm_count;
    if (context == NULL) {
        return -1; /* no memory to watch the connection: its handshake fails */
    }
    http_tls_current(context->server->tls, chain, count, key);
    return 0;
}

static const char TLS_PRIORITIES[] = "SECURE192:SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE";

static struct MHD_Daemon *start_daemon(struct http_listener *listener) {
    const struct http_config *config = &listener->server->config;
    const bool secure = listener->server->tls != NULL && listener->unix_path[0] == '\0';
    const struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    const struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)(uintptr_t)give_certificate},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)TLS_PRIORITIES},
        {MHD_OPTION_END, 0, NULL},
    };

    /* The logger comes first, so that it also gets what the later options have to say. */
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME | (secure ? MHD_USE_TLS : 0), 0, NULL, NULL,
        http_on_request, listener, MHD_OPTION_EXTERNAL_LOGGER, log_library, NULL, MHD_OPTION_LISTEN_SOCKET,
        listener->socket, MHD_OPTION_URI_LOG_CALLBACK, http_on_target, listener, MHD_OPTION_NOTIFY_COMPLETED,
        http_on_completed, listener, MHD_OPTION_NOTIFY_CONNECTION, http_on_connection, listener,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_CONNECTION_MEMORY, MHD_OPTION_CONNECTION_LIMIT,
        config->connection_limit, MHD_OPTION_CONNECTION_TIMEOUT, config->idle_timeout_s, MHD_OPTION_STRICT_FOR_CLIENT,
        1, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_ARRAY, secure ? tls : none, MHD_OPTION_END);
}

enum status http_listener_start(struct http_server *server, int socket, const char *unix_path, struct error *error) {
    struct http_listener *listener;
    const union MHD_DaemonInfo *info;

    if (server->listener_count == HTTP_LISTENERS_MAX) {
        (void)close(socket);
        if (unix_path[0] != '\0') {
            (void)unlink(unix_path);
        }
        return error_set(error, STATUS_LIMIT, NULL, "failed to listen: got more than %d addresses", HTTP_LISTENERS_MAX);
    }
    listener = &server->listeners[server->listener_count];
    memset(listener, 0, sizeof(*listener));
    listener->server = server;
    listener->socket = socket;
    (void)snprintf(listener->unix_path, sizeof(listener->unix_path), "%s", unix_path);
    listener->daemon = start_daemon(listener);
    info = listener->daemon == NULL ? NULL : MHD_get_daemon_info(listener->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL || uv_timer_init(server->loop, &listener->timer) != 0) {
        goto fail;
    }
    listener->timed = true;
    if (uv_poll_init(server->loop, &listener->poll, info->epoll_fd) != 0) {
        goto fail;
    }
    listener->polled = true;
    listener->timer.data = listener;
    listener->poll.data = listener;
    server->open_handles += 2;
    server->listener_count++;
    (void)uv_poll_start(&listener->poll, UV_READABLE, on_poll);
    http_listener_kick(listener);
    return STATUS_OK;
fail:
    if (listener->timed) {
        uv_close((uv_handle_t *)&listener->timer, NULL);
    }
    if (listener->daemon != NULL) {
        MHD_stop_daemon(listener->daemon); /* closes the socket */
        listener->daemon = NULL;
    }
    return error_set(error, STATUS_INTERNAL, NULL, "failed to start the HTTP library on a socket");
}

void http_listener_quiesce(struct http_listener *listener) {
    MHD_socket fd;

    if (listener->daemon == NULL || listener->socket < 0) {
        return;
    }
    fd = MHD_quiesce_daemon(listener->daemon);
    if (fd != MHD_INVALID_SOCKET) {
        (void)close(fd);
    }
    listener->socket = -1;
    if (listener->unix_path[0] != '\0') {
        (void)unlink(listener->unix_path);
    }
}

static void on_handle_closed(uv_handle_t *handle) {
    struct http_listener *listener = handle->data;
    http_handle_closed(listener->server);
}

void http_listener_stop(struct http_listener *listener) {
    http_listener_quiesce(listener);
    if (listener->polled) {
        (void)uv_poll_stop(&listener->poll);
        uv_close((uv_handle_t *)&listener->poll, on_handle_closed);
    }
    if (listener->timed) {
        uv_close((uv_handle_t *)&listener->timer, on_handle_closed);
    }
    if (listener->daemon != NULL) {
        MHD_stop_daemon(listener->daemon);
        listener->daemon = NULL;
    }
}

static enum status parse_address(const char *address, uint16_t port, struct sockaddr_storage *out, socklen_t *length) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

    memset(out, 0, sizeof(*out));
    if (inet_pton(AF_INET, strcmp(address, "localhost") == 0 ? "127.0.0.1" : address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        *length = sizeof(*v4);
        return STATUS_OK;
    }
    if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        *length = sizeof(*v6);
        return STATUS_OK;
    }
    return STATUS_INVALID;
}

enum status http_server_listen_tcp(struct http_server *server, const char *address, uint16_t port, uint16_t *bound,
                                   struct error *error) {
    struct sockaddr_storage storage;
    struct sockaddr *sockaddr = (struct sockaddr *)&storage;
    socklen_t length = 0;
    int fd = -1, one = 1;
    enum status status;

    if (parse_address(address, port, &storage, &length) != STATUS_OK) {
        return error_set(error, STATUS_INVALID, NULL, "failed to listen: got address '%s', expected an IP address",
                         address);
    }
    fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 || bind(fd, sockaddr, length) != 0 ||
        listen(fd, LISTEN_BACKLOG) != 0 || getsockname(fd, sockaddr, &length) != 0) {
        status = error_io(error, NULL, "failed to listen on %s port %u", address, (unsigned)port);
        if (fd >= 0) {
            (void)close(fd);
        }
        return status;
    }
    *bound = ntohs(storage.ss_family == AF_INET ? ((struct sockaddr_in *)&storage)->sin_port
                                                : ((struct sockaddr_in6 *)&storage)->sin6_port);
    return http_listener_start(server, fd, "", error);
}

/* A socket file that nobody answers on is left from a crash. */
static bool is_answered(const struct sockaddr_un *address) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool answered = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;

    if (fd >= 0) {
        (void)close(fd);
    }
    return answered;
}

enum status http_server_listen_unix(struct http_server *server, const char *path, struct error *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat info;
    int fd;
    enum status status;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return error_set(error, STATUS_LIMIT, NULL, "failed to listen on socket %s: got a path over %zu bytes", path,
                         sizeof(address.sun_path) - 1);
    }
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (lstat(path, &info) == 0) {
        if (!S_ISSOCK(info.st_mode) || is_answered(&address)) {
            return error_set(error, STATUS_CONFLICT, NULL, "failed to listen on socket %s: the path is in use", path);
        }
        (void)unlink(path);
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* The mode is set between bind and listen, when nobody can connect yet. */
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 || chmod(path, 0600) != 0 ||
        listen(fd, LISTEN_BACKLOG) != 0) {
        status = error_io(error, NULL, "failed to listen on socket %s", path);
        if (fd >= 0) {
            (void)close(fd);
        }
        return status;
    }
    return http_listener_start(server, fd, path, error);
}
