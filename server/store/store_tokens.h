/* Bearer tokens: rows that hold the SHA-256 of a secret, never the secret. */
#ifndef ONP_SERVER_STORE_STORE_TOKENS_H
#define ONP_SERVER_STORE_STORE_TOKENS_H

#include <stddef.h>
#include <stdint.h>

#include "common/digest.h"
#include "common/id.h"
#include "common/secret.h"
#include "common/words.h"
#include "server/store/store.h"

enum { STORE_TOKEN_NAME_SIZE = 128, STORE_TOKENS_MAX = 10000 };

struct store_token {
    char id[ID_SIZE]; /* tok_... */
    char name[STORE_TOKEN_NAME_SIZE];
    char sha256[DIGEST_HEX_SIZE]; /* of the secret */
    unsigned scopes;              /* bits 1 << enum token_scope */
    int64_t created_ms;
    int64_t expires_ms; /* 0: never */
    int64_t used_ms;    /* about when it was last used; 0: never */
};

/* Makes a token with a fresh secret, which is written to `secret` and cannot be had again. expires_ms 0: never. The first token
 * must have the scope admin (STATUS_CONFLICT), or nobody could make or revoke another. STATUS_INVALID for no or unknown scopes and
 * for a name that is too long or no UTF-8, with place "/name" or "/scopes"; STATUS_LIMIT beyond STORE_TOKENS_MAX. */
enum status store_token_create(struct store *store, const char *name, unsigned scopes, int64_t expires_ms,
                               char secret[SECRET_SIZE], struct store_token *token, struct error *error);
/* All of them, newest first; mem_free() the array. */
enum status store_token_list(struct store *store, struct store_token **tokens, size_t *count, struct error *error);
/* STATUS_NOT_FOUND; STATUS_CONFLICT for the last one with the scope admin while there are others. */
enum status store_token_revoke(struct store *store, const char *id, struct error *error);
/* Writes used_ms of each of these rows; those that are gone are passed over. */
enum status store_token_note_used(struct store *store, const struct store_token *tokens, size_t count,
                                  struct error *error);

#endif
