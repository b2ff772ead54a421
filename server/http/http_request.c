/* What a handler may ask of its request. */
#include "server/http/http_request.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/json_read.h"
#include "server/http/http_internal.h"

const char *http_request_path(const struct http_request *request) {
    return request->uri.path;
}

const char *http_request_param(const struct http_request *request, const char *name) {
    return http_match_param(&request->match, name);
}

const char *http_request_query(const struct http_request *request, const char *name) {
    return http_uri_query(&request->uri, name);
}

bool http_request_query_item(const struct http_request *request, size_t index, const char **name, const char **value) {
    if (index >= request->uri.query_count) {
        return false;
    }
    *name = request->uri.query[index].name;
    *value = request->uri.query[index].value;
    return true;
}

enum status http_request_check_query(const struct http_request *request, const char *const *known,
                                     struct error *error) {
    for (size_t i = 0; i < request->uri.query_count; i++) {
        const char *name = request->uri.query[i].name;
        size_t k = 0;
        while (known[k] != NULL && strcmp(known[k], name) != 0) {
            k++;
        }
        if (known[k] == NULL) {
            return error_set(error, STATUS_INVALID, NULL, "failed to read the query: got unknown parameter '%.64s'",
                             name);
        }
    }
    return STATUS_OK;
}

const char *http_request_header(const struct http_request *request, const char *name) {
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

enum status http_request_json(const struct http_request *request, json_t **json, struct error *error) {
    size_t length;
    const char *body = http_request_body(request, &length);

    return json_read_text(body, length, json, error);
}

const char *http_request_body(const struct http_request *request, size_t *length) {
    *length = request->body.length;
    return request->body.data != NULL ? request->body.data : "";
}

const char *http_request_method(const struct http_request *request) {
    return request->method;
}

struct http_server *http_request_server(const struct http_request *request) {
    return request->server;
}

static const struct sockaddr *peer_of(const struct http_request *request) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

    return info == NULL ? NULL : info->client_addr;
}

void http_request_address(const struct http_request *request, char out[HTTP_ADDRESS_SIZE]) {
    const struct sockaddr *address = peer_of(request);
    const void *bytes = NULL;

    (void)snprintf(out, HTTP_ADDRESS_SIZE, "%s", request->listener->unix_path[0] != '\0' ? "unix" : "unknown");
    if (address != NULL && address->sa_family == AF_INET) {
        bytes = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    } else if (address != NULL && address->sa_family == AF_INET6) {
        bytes = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    }
    if (bytes != NULL) {
        (void)inet_ntop(address->sa_family, bytes, out, HTTP_ADDRESS_SIZE);
    }
}

void http_request_set_subject(struct http_request *request, const char *subject) {
    (void)snprintf(request->subject, sizeof(request->subject), "%s", subject);
}

const char *http_request_subject(const struct http_request *request) {
    return request->subject;
}

enum http_peer http_request_peer(const struct http_request *request) {
    const struct sockaddr *address = peer_of(request);
    bool loopback = false;

    if (request->listener->unix_path[0] != '\0') {
        return HTTP_PEER_UNIX;
    }
    if (address != NULL && address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)address;
        loopback = ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    } else if (address != NULL && address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)address;
        loopback = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    }
    return loopback ? HTTP_PEER_LOOPBACK : HTTP_PEER_REMOTE;
}

void http_request_set_sink(struct http_request *request, const struct http_sink *sink) {
    request->sink = *sink;
    request->has_sink = true;
}

void *http_request_take_sink(struct http_request *request) {
    void *user = request->has_sink ? request->sink.user : NULL;

    request->has_sink = false;
    return user;
}
