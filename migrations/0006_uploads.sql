-- Uploads that come in pieces. The bytes are in <data>/uploads/<id>; `taken` is how many of them are surely on the disk.
CREATE TABLE uploads (
    id         TEXT PRIMARY KEY,
    length     INTEGER NOT NULL CHECK (length >= 0),
    taken      INTEGER NOT NULL DEFAULT 0 CHECK (taken BETWEEN 0 AND length),
    metadata   TEXT NOT NULL,
    object_id  TEXT NOT NULL DEFAULT '', -- what it was made into; the file is gone then
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX uploads_by_expiry ON uploads (expires_ms);
