/* A server of canned answers on a UNIX socket, for tests of the client: one answer a connection, in order. */
#ifndef ONP_TESTS_UNIT_CLIENT_CANNED_SERVER_H
#define ONP_TESTS_UNIT_CLIENT_CANNED_SERVER_H

#include <stddef.h>

enum { CANNED_MAX = 12, CANNED_REQUEST_MAX = 1 << 20 };

struct canned_server;

/* Answers connection i with answers[i] (whole HTTP text, borrowed) after it has read the request with its body, then
 * closes it. */
struct canned_server *canned_server_start(const char *socket_path, const char *const *answers, size_t count);
/* Waits until all answers are given. The text of request i stays valid until canned_server_free(). */
void canned_server_join(struct canned_server *server);
const char *canned_server_request(const struct canned_server *server, size_t i);
void canned_server_free(struct canned_server *server);

#endif
