/* The certificate of TLS connections, which can be exchanged while connections live. Loop thread. */
#ifndef ONP_SERVER_HTTP_HTTP_TLS_H
#define ONP_SERVER_HTTP_HTTP_TLS_H

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <stddef.h>

#include "common/error.h"

struct http_tls;

/* Reads a chain (PEM, the server's own first) and its key (PEM). STATUS_INVALID if they do not belong together. */
enum status http_tls_new(const char *certificate, const char *key, struct http_tls **out, struct error *error);
/* Reads the files again; on an error the ones of before stay in use. */
enum status http_tls_reload(struct http_tls *tls, struct error *error);
void http_tls_free(struct http_tls *tls);

/* What gnutls asks for in a handshake; borrowed. */
void http_tls_current(const struct http_tls *tls, gnutls_pcert_st **chain, unsigned *count, gnutls_privkey_t *key);

#endif
