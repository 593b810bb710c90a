-- Learning from labels: jobs that train a projection head, the heads that came of them, and what such a job goes on from.
ALTER TABLE jobs
    DROP CONSTRAINT jobs_kind_check,
    ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('cluster', 'assign', 'prototypes', 'train'));

-- A head maps the embeddings of `model` to `dim` numbers. `fingerprint`: the start of the SHA-256 of `onnx`, as models name it. `training`
-- and `verdict` hold counts, losses and rates: no person, no embedding. `collection`: whose faces it was trained on; a head may serve all
-- collections, so it outlives that one. A job makes one head, so that whoever does its work again finds that it was done.
CREATE TABLE heads (
    head_id     uuid        PRIMARY KEY,
    collection  text        REFERENCES collections ON DELETE SET NULL,
    model       text        NOT NULL CHECK (model <> ''),
    fingerprint text        NOT NULL CHECK (fingerprint <> ''),
    dim         integer     NOT NULL CHECK (dim > 0),
    job_id      uuid        UNIQUE,
    params      jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(params) = 'object'),
    training    jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(training) = 'object'),
    state       text        NOT NULL DEFAULT 'candidate'
                            CHECK (state IN ('candidate', 'accepted', 'refused', 'serving', 'retired')),
    verdict     jsonb       CHECK (jsonb_typeof(verdict) = 'object'),
    onnx        bytea       NOT NULL CHECK (octet_length(onnx) > 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE heads ALTER COLUMN onnx SET STORAGE EXTERNAL;
CREATE INDEX heads_created ON heads (created_at, head_id);
CREATE INDEX heads_collection ON heads (collection) WHERE collection IS NOT NULL;
CREATE UNIQUE INDEX heads_serving ON heads ((true)) WHERE state = 'serving';

-- A training between two epochs, as whoever takes the job over goes on from it. The last two of a job are kept, and none once it ends.
-- `history`: what came of each epoch so far.
CREATE TABLE head_checkpoints (
    job_id     uuid        NOT NULL REFERENCES jobs ON DELETE CASCADE,
    epoch      integer     NOT NULL CHECK (epoch >= 0),
    history    jsonb       NOT NULL CHECK (jsonb_typeof(history) = 'array'),
    bytes      bytea       NOT NULL CHECK (octet_length(bytes) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, epoch)
);
ALTER TABLE head_checkpoints ALTER COLUMN bytes SET STORAGE EXTERNAL;
