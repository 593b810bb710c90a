-- Two more kinds of jobs: one that erases, and one that exports. Whoever uses these tables now is not made to wait for long: a
-- migration that does not get its locks is run again.
SET LOCAL lock_timeout = '5s';

-- A job that erases outlives the collection that it deletes, so that it comes to its end and says what came of it. All others go with
-- their collection, by way of `held_collection`. `params` of a job that erases hold the id of what is erased, as the receipt does.
ALTER TABLE jobs
    DROP CONSTRAINT jobs_kind_check,
    ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('cluster', 'assign', 'prototypes', 'train', 'erase', 'export')),
    DROP CONSTRAINT jobs_collection_fkey,
    ADD COLUMN held_collection text GENERATED ALWAYS AS (CASE WHEN kind <> 'erase' THEN collection END) STORED
        REFERENCES collections ON DELETE CASCADE;

-- The job that an erasure was begun or gone on with by: whoever takes the job over finds that it was done.
ALTER TABLE erasures ADD COLUMN job_id uuid;
CREATE INDEX erasures_job ON erasures (job_id) WHERE job_id IS NOT NULL;
