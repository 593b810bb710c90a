-- What a collection keeps, and for how long (null: the operator's default, for results; for ever, for the others).
ALTER TABLE collections
    ADD COLUMN keep_faces       text NOT NULL DEFAULT 'enrolled' CHECK (keep_faces IN ('enrolled', 'unmatched', 'all')),
    ADD COLUMN keep_images      text NOT NULL DEFAULT 'none' CHECK (keep_images IN ('none', 'aligned', 'crop', 'original')),
    ADD COLUMN retain_results   interval CHECK (retain_results > interval '0'),
    ADD COLUMN retain_unmatched interval CHECK (retain_unmatched > interval '0'),
    ADD COLUMN retain_images    interval CHECK (retain_images > interval '0');

-- Old rows go in steps of a few thousand, found by the index below, and not by dropping a partition of each day: a
-- partitioned table can only be unique by a key that contains the day, but `crop_id` alone must be unique, or a redelivery on
-- the next day would be a second crop. What the steps leave is reused by the inserts of the same rate, if vacuum keeps up:
-- by default it waits for a fifth of the table, which is 60 million rows of 300; here for one in a hundred. Inserts count
-- too, so that the visibility map is fresh and counts are read from the indexes alone.
CREATE INDEX crops_admitted ON crops (collection, admitted_at);
ALTER TABLE crops SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 1);
ALTER TABLE recognitions SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 1);
ALTER TABLE stage_failures SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 1);
ALTER TABLE faces SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- The failures of one camera that a replay replaced since.
CREATE INDEX stage_failures_camera_time ON stage_failures (collection, camera, at);
