-- Calibrations that users made, for a collection or for one camera of it. In force is, of each collection, camera (or none)
-- and model, the one that was applied last and not reverted; reverting it puts the one before in force again. A row is never
-- changed but for these two times: a decision names its version.
CREATE TABLE calibrations (
    version     text        PRIMARY KEY CHECK (version ~ '^[A-Za-z0-9._-]{1,64}$'),
    collection  text        NOT NULL REFERENCES collections,
    camera      text,
    model       text        NOT NULL CHECK (model <> ''),
    document    jsonb       NOT NULL CHECK (jsonb_typeof(document) = 'object'),
    created_at  timestamptz NOT NULL DEFAULT now(),
    applied_at  timestamptz,
    reverted_at timestamptz CHECK (reverted_at IS NULL OR applied_at IS NOT NULL)
);
CREATE INDEX calibrations_in_force ON calibrations (model, collection, camera, applied_at DESC)
    WHERE applied_at IS NOT NULL AND reverted_at IS NULL;
