-- For finding files that no job uses any more.
CREATE INDEX jobs_by_model ON jobs (model_id);
CREATE INDEX jobs_by_samples ON jobs (samples_id);
CREATE INDEX jobs_by_probe ON jobs (probe_id) WHERE probe_id IS NOT NULL;
