-- What the list of jobs and the live search show, so that neither has to read whole reports.

-- {verdict, accuracy_before, accuracy_after, asr_before, asr_after, pruned_units} of the report, null for what it lacks.
ALTER TABLE results ADD COLUMN summary TEXT;
UPDATE results SET summary = json_object(
    'verdict', json_extract(report, '$.verdict'),
    'accuracy_before', json_extract(report, '$.accuracy.before'),
    'accuracy_after', json_extract(report, '$.accuracy.after'),
    'asr_before', json_extract(report, '$.probe.asr_before'),
    'asr_after', json_extract(report, '$.probe.asr_after'),
    'pruned_units', json_extract(report, '$.pruned_units'));

ALTER TABLE jobs ADD COLUMN evaluations INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN mean_reward REAL;
ALTER TABLE jobs ADD COLUMN greedy_reward REAL;
