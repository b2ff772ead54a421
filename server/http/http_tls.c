/* Two generations of the certificate are kept: a handshake that began before an exchange may still hold the one before. */
#include "server/http/http_tls.h"

#include <string.h>

#include "common/file.h"
#include "common/mem.h"

enum { CHAIN_MAX = 16, FILE_MAX = 1 << 20 };

struct generation {
    gnutls_pcert_st chain[CHAIN_MAX];
    unsigned count;
    gnutls_privkey_t key; /* NULL: unused */
};

struct http_tls {
    char *certificate_path, *key_path;
    struct generation generations[2];
    size_t current;
};

static void clear(struct generation *generation) {
    for (unsigned i = 0; i < generation->count; i++) {
        gnutls_pcert_deinit(&generation->chain[i]);
    }
    if (generation->key != NULL) {
        gnutls_privkey_deinit(generation->key);
    }
    memset(generation, 0, sizeof *generation);
}

static enum status refuse(const char *option, const char *what, int code, struct error *error) {
    return error_set(error, STATUS_INVALID, option, "failed to read the TLS %s: %s", what, gnutls_strerror(code));
}

static enum status read_pem(const char *path, char **text, gnutls_datum_t *datum, struct error *error) {
    size_t length = 0;
    const enum status status = file_read(path, FILE_MAX, text, &length, error);
    if (status == STATUS_OK) {
        *datum = (gnutls_datum_t){.data = (unsigned char *)*text, .size = (unsigned)length};
    }
    return status;
}

/* The key must be that of the first certificate, or no handshake would ever succeed. */
static enum status match(const struct generation *generation, struct error *error) {
    gnutls_pubkey_t public = NULL;
    unsigned char of_key[64], of_certificate[64];
    size_t key_size = sizeof of_key, certificate_size = sizeof of_certificate;
    int code = gnutls_pubkey_init(&public);
    if (code == 0) {
        code = gnutls_pubkey_import_privkey(public, generation->key, 0, 0);
    }
    if (code == 0) {
        code = gnutls_pubkey_get_key_id(public, GNUTLS_KEYID_USE_SHA256, of_key, &key_size);
    }
    if (code == 0) {
        code = gnutls_pubkey_get_key_id(generation->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, of_certificate,
                                        &certificate_size);
    }
    if (public != NULL) {
        gnutls_pubkey_deinit(public);
    }
    if (code != 0) {
        return refuse("--tls-key", "key", code, error);
    }
    if (key_size != certificate_size || memcmp(of_key, of_certificate, key_size) != 0) {
        return error_set(error, STATUS_INVALID, "--tls-key",
                         "failed to read the TLS key: it is not that of the certificate");
    }
    return STATUS_OK;
}

static enum status load(const struct http_tls *tls, struct generation *out, struct error *error) {
    char *certificate_text = NULL, *key_text = NULL;
    gnutls_datum_t certificate = {NULL, 0}, key = {NULL, 0};
    struct generation generation = {.count = 0};
    unsigned count = CHAIN_MAX;
    enum status status = read_pem(tls->certificate_path, &certificate_text, &certificate, error);
    if (status == STATUS_OK) {
        status = read_pem(tls->key_path, &key_text, &key, error);
    }
    if (status != STATUS_OK) {
        goto done;
    }
    int code = gnutls_pcert_list_import_x509_raw(generation.chain, &count, &certificate, GNUTLS_X509_FMT_PEM, 0);
    if (code != 0) {
        status = refuse("--tls-cert", "certificate", code, error);
        goto done;
    }
    generation.count = count;
    code = gnutls_privkey_init(&generation.key);
    if (code == 0) {
        code = gnutls_privkey_import_x509_raw(generation.key, &key, GNUTLS_X509_FMT_PEM, NULL, 0);
    }
    status = code != 0 ? refuse("--tls-key", "key", code, error) : match(&generation, error);
    if (status == STATUS_OK) {
        *out = generation;
    } else {
        clear(&generation);
    }
done:
    if (key_text != NULL) {
        explicit_bzero(key_text, key.size);
    }
    mem_free(certificate_text);
    mem_free(key_text);
    return status;
}

enum status http_tls_new(const char *certificate, const char *key, struct http_tls **out, struct error *error) {
    struct http_tls *tls = mem_calloc(1, sizeof *tls);
    enum status status = STATUS_OK;
    if (tls != NULL) {
        tls->certificate_path = mem_strdup(certificate);
        tls->key_path = mem_strdup(key);
    }
    if (tls == NULL || tls->certificate_path == NULL || tls->key_path == NULL) {
        status = error_no_memory(error, "the TLS certificate");
    } else {
        status = load(tls, &tls->generations[0], error);
    }
    if (status != STATUS_OK) {
        http_tls_free(tls);
        return status;
    }
    *out = tls;
    return STATUS_OK;
}

enum status http_tls_reload(struct http_tls *tls, struct error *error) {
    struct generation generation;
    const enum status status = load(tls, &generation, error);
    if (status == STATUS_OK) {
        tls->current = 1 - tls->current;
        clear(&tls->generations[tls->current]);
        tls->generations[tls->current] = generation;
    }
    return status;
}

void http_tls_free(struct http_tls *tls) {
    if (tls == NULL) {
        return;
    }
    clear(&tls->generations[0]);
    clear(&tls->generations[1]);
    mem_free(tls->certificate_path);
    mem_free(tls->key_path);
    mem_free(tls);
}

void http_tls_current(const struct http_tls *tls, gnutls_pcert_st **chain, unsigned *count, gnutls_privkey_t *key) {
    const struct generation *generation = &tls->generations[tls->current];
    /* gnutls reads them only; its signature predates const. */
    memcpy(chain, &(const gnutls_pcert_st *){generation->chain}, sizeof *chain);
    *count = generation->count;
    *key = generation->key;
}
