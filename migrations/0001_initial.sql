-- The first schema: uploaded files, jobs and what they leave.
--
-- Times are milliseconds since the Unix epoch, UTC. JSON is text. A 64-bit seed is stored by its bit pattern.

CREATE TABLE blobs (
    sha256     TEXT PRIMARY KEY CHECK (length(sha256) = 64),
    size       INTEGER NOT NULL CHECK (size >= 0),
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE models (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    sha256     TEXT NOT NULL UNIQUE REFERENCES blobs (sha256),
    info       TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE samples (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    sha256     TEXT NOT NULL UNIQUE REFERENCES blobs (sha256),
    info       TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

-- Models and samples are not referenced as foreign keys: a finished job outlives what it was made from.
CREATE TABLE jobs (
    id               TEXT PRIMARY KEY,
    state            TEXT NOT NULL CHECK (state IN ('queued', 'starting', 'running', 'cancelling', 'succeeded',
                                                    'failed', 'cancelled', 'interrupted')),
    version          INTEGER NOT NULL DEFAULT 1,
    attempt          INTEGER NOT NULL DEFAULT 0,
    losses           INTEGER NOT NULL DEFAULT 0,
    max_attempts     INTEGER NOT NULL,
    model_id         TEXT NOT NULL,
    samples_id       TEXT NOT NULL,
    probe_id         TEXT,
    method           TEXT NOT NULL,
    parameters       TEXT NOT NULL,
    seed             INTEGER NOT NULL,
    priority         INTEGER NOT NULL DEFAULT 0,
    deadline_s       REAL NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0 CHECK (cancel_requested IN (0, 1)),
    lease_until_ms   INTEGER NOT NULL DEFAULT 0,
    stage            TEXT,
    step             INTEGER NOT NULL DEFAULT 0,
    total            INTEGER NOT NULL DEFAULT 0,
    fraction         REAL NOT NULL DEFAULT 0,
    eta_s            REAL,
    best_reward      REAL,
    message          TEXT NOT NULL DEFAULT '',
    noted_fraction   REAL NOT NULL DEFAULT 0, -- progress when its latest event was written
    noted_ms         INTEGER NOT NULL DEFAULT 0,
    problem_status   TEXT,
    problem_where    TEXT,
    problem_message  TEXT,
    created_ms       INTEGER NOT NULL,
    started_ms       INTEGER NOT NULL DEFAULT 0,
    finished_ms      INTEGER NOT NULL DEFAULT 0,
    updated_ms       INTEGER NOT NULL
) STRICT;

-- The next job to claim is the first entry of this index.
CREATE INDEX jobs_queue ON jobs (priority DESC, id) WHERE state = 'queued';
CREATE INDEX jobs_by_state ON jobs (state, id);
CREATE INDEX jobs_by_method ON jobs (method, id);

CREATE TABLE labels (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (job_id, key)
) STRICT, WITHOUT ROWID;
-- Lists of jobs with a label walk these backwards, newest first.
CREATE INDEX labels_by_value ON labels (key, value, job_id);
CREATE INDEX labels_by_key ON labels (key, job_id);

CREATE TABLE events (
    job_id   TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    time_ms  INTEGER NOT NULL,
    type     TEXT NOT NULL,
    data     TEXT NOT NULL,
    PRIMARY KEY (job_id, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE results (
    job_id TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    report TEXT NOT NULL
) STRICT;

CREATE TABLE artifacts (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    name   TEXT NOT NULL,
    sha256 TEXT NOT NULL REFERENCES blobs (sha256),
    PRIMARY KEY (job_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX artifacts_by_blob ON artifacts (sha256);

-- One row that readiness checks rewrite after a failed write, to see whether the database takes writes again.
CREATE TABLE probe (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    time_ms INTEGER NOT NULL
) STRICT;
