/* A client and a server of canned answers, in a folder of their own. */
#ifndef ONP_TESTS_UNIT_CLIENT_EXCHANGE_H
#define ONP_TESTS_UNIT_CLIENT_EXCHANGE_H

#include "client/api_client.h"
#include "tests/support/scratch.h"
#include "tests/unit/client/canned_server.h"

#define OK_HEAD "HTTP/1.1 200 OK\r\nConnection: close\r\n"

struct exchange {
    struct scratch scratch;
    struct canned_server *server;
    struct api_client *client; /* with the token "secret" */
};

/* Starts the server, and a client of it. */
void exchange_begin(struct exchange *exchange, const char *const *answers, size_t count);
void exchange_end(struct exchange *exchange);

#endif
