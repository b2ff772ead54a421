/* What the tests of HTTP calls begin and end with. */
#include "tests/unit/client/exchange.h"

#include <stdio.h>

#include "tests/support/cm.h"

void exchange_begin(struct exchange *exchange, const char *const *answers, size_t count) {
    struct error error = {0};
    char address[PATH_MAX + 8];
    scratch_make(&exchange->scratch);
    const char *path = scratch_path(&exchange->scratch, "sock");
    exchange->server = canned_server_start(path, answers, count);
    (void)snprintf(address, sizeof address, "unix:%s", path);
    assert_int_equal(api_client_new(address, "secret", &exchange->client, &error), STATUS_OK);
}

void exchange_end(struct exchange *exchange) {
    api_client_free(exchange->client);
    canned_server_free(exchange->server);
    scratch_remove(&exchange->scratch);
}
