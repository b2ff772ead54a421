-- Bearer tokens. The secret itself is nowhere: only its SHA-256. `scopes` are bits in the order read, write, metrics, admin.
CREATE TABLE tokens (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    sha256     TEXT NOT NULL UNIQUE,
    scopes     INTEGER NOT NULL CHECK (scopes BETWEEN 1 AND 15),
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL DEFAULT 0,
    used_ms    INTEGER NOT NULL DEFAULT 0
) STRICT;
