/* Documents of jobs as they were last given out. Pipelines poll the same few jobs many times a second and mostly hear the same: as long
 * as nothing was committed since, the text is given out again and neither database nor JSON is touched. */
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/api/api_internal.h"

enum { PLACES = 256 };

struct place {
    char id[ID_SIZE]; /* "": empty */
    uint64_t generation;
    struct http_document document;
};

struct api_documents {
    struct place places[PLACES];
};

struct api_documents *api_documents_new(void) {
    return mem_calloc(1, sizeof(struct api_documents));
}

void api_documents_free(struct api_documents *documents) {
    for (size_t i = 0; documents != NULL && i < PLACES; i++) {
        http_document_deinit(&documents->places[i].document);
    }
    mem_free(documents);
}

/* The end of an id is random. */
static struct place *place_of(struct api_documents *documents, const char *id) {
    size_t hash = 0;

    for (const char *at = id; *at != '\0'; at++) {
        hash = hash * 31 + (unsigned char)*at;
    }
    return &documents->places[hash % PLACES];
}

const struct http_document *api_documents_job(struct api *api, const char *id, struct error *error) {
    struct place *place = place_of(api->documents, id);
    /* Before the row is read: a commit in between makes the document old, never falsely new. */
    uint64_t generation = store_generation(api->config.store);
    struct http_document fresh;
    struct store_job job;
    json_t *json;

    if (place->generation == generation && strcmp(place->id, id) == 0) {
        return &place->document;
    }
    if (store_job_find(api->config.store, id, &job, error) != STATUS_OK) {
        return NULL;
    }
    json = api_job_json(&job);
    store_job_deinit(&job);
    if (!http_document_make(&fresh, json)) {
        (void)error_no_memory(error, "the document of a job");
        return NULL;
    }
    http_document_deinit(&place->document);
    place->document = fresh;
    place->generation = generation;
    (void)snprintf(place->id, sizeof(place->id), "%s", id);
    return &place->document;
}
