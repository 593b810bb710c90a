-- Two more kinds of jobs: one that erases, and one that exports. Neither `jobs` nor `erasures` gets a column: the release before reads
-- all that they have, by statements that it prepared, and these fail once there is one more.
ALTER TABLE jobs
    DROP CONSTRAINT jobs_kind_check,
    ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('cluster', 'assign', 'prototypes', 'train', 'erase', 'export')),
    DROP CONSTRAINT jobs_collection_fkey;

-- A job that erases outlives the collection that it deletes, so that it comes to its end and says what came of it. All others go with
-- their collection, as the foreign key saw to: with the rights of the tables' owner, so that whoever may delete a collection needs none
-- on `jobs`. Nothing here is found by the caller's search path, and nobody else makes a trigger of the function. `params` of a job that
-- erases hold the id of what is erased, as the receipt does.
CREATE FUNCTION collection_was_deleted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('DELETE FROM %I.jobs WHERE collection = $1 AND kind <> ''erase''', TG_TABLE_SCHEMA) USING OLD.collection;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION collection_was_deleted() FROM PUBLIC;
CREATE TRIGGER collections_deleted AFTER DELETE ON collections FOR EACH ROW EXECUTE FUNCTION collection_was_deleted();

-- An erasure runs beside the other jobs of its collection, as it does by a request.
DROP INDEX jobs_running;
CREATE UNIQUE INDEX jobs_running ON jobs (collection) WHERE state = 'running' AND kind <> 'erase';

-- Which erasure a job has begun or gone on with: whoever takes the job over finds that it was done. Goes with the job; a receipt stays.
CREATE TABLE erasure_jobs (
    job_id     uuid PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    erasure_id uuid NOT NULL REFERENCES erasures ON DELETE CASCADE
);
