/* How much may be stored. */
#include "server/api/api_internal.h"

enum status api_room_check(struct api *api, uint64_t bytes, struct error *error) {
    const struct api_config *config = &api->config;
    uint64_t used = 0;
    enum status status = store_check_disk(config->store, config->min_free + bytes, error);

    if (status == STATUS_OK && config->quota_bytes > 0) {
        status = store_bytes(config->store, &used, error);
    }
    if (status == STATUS_OK && config->quota_bytes > 0 &&
        (used > config->quota_bytes || bytes > config->quota_bytes - used)) {
        status =
            error_set(error, STATUS_LIMIT, "quota",
                      "failed to store %llu bytes more: got %llu stored already, expected at most %llu altogether; "
                      "delete what is not needed",
                      (unsigned long long)bytes, (unsigned long long)used, (unsigned long long)config->quota_bytes);
    }
    return status;
}
