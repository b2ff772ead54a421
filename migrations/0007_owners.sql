-- Whose a job is, for limits that each client has of its own; and the queued jobs that have a deadline, which are looked through every
-- few seconds.
ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT '';
CREATE INDEX jobs_live_by_owner ON jobs (owner)
    WHERE state IN ('queued', 'starting', 'running', 'cancelling', 'interrupted');
CREATE INDEX jobs_queued_with_deadline ON jobs (id) WHERE state = 'queued' AND deadline_s > 0;
