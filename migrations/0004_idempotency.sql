-- Answers to requests that came with an Idempotency-Key, for a day. code 0: the request is still being worked on; `resource` is then
-- the job that was made for it, written in the same transaction as the job.
CREATE TABLE idempotency (
    subject     TEXT NOT NULL, -- who asked
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL, -- of method, target and body
    code        INTEGER NOT NULL DEFAULT 0,
    location    TEXT NOT NULL DEFAULT '',
    body        TEXT,
    resource    TEXT,
    created_ms  INTEGER NOT NULL,
    PRIMARY KEY (subject, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (created_ms);
