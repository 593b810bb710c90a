-- The truth (DESIGN §3, §4, §6). Names are plain, so that views and dashboards can be written over them by hand.
-- The hot tables (crops, recognitions, stage_failures) carry no foreign keys on purpose: one statement writes an ending
-- with all that it needs, and a lookup per row would be paid for every crop of every camera.

CREATE TABLE collections (
    collection  text        PRIMARY KEY CHECK (collection ~ '^[A-Za-z0-9_-]{1,64}$'),
    metadata    jsonb       NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- name_key is the name as it is compared: trimmed and lower case by Unicode, computed by the store, so that a database
-- with the C locale judges names as any other does.
CREATE TABLE persons (
    person_id   uuid        PRIMARY KEY,
    collection  text        NOT NULL REFERENCES collections,
    subject_id  text        NOT NULL CHECK (subject_id <> ''),
    name        text        NOT NULL CHECK (name <> ''),
    name_key    text        NOT NULL CHECK (name_key <> ''),
    status      text        NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'merged', 'hidden')),
    merged_into uuid        REFERENCES persons CHECK (merged_into <> person_id),
    metadata    jsonb       NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT persons_merged_somewhere CHECK ((status = 'merged') = (merged_into IS NOT NULL)),
    CONSTRAINT persons_subject UNIQUE (collection, subject_id),
    CONSTRAINT persons_name UNIQUE (collection, name_key)
);
CREATE INDEX persons_merged_into ON persons (merged_into) WHERE merged_into IS NOT NULL;

-- embedding: the numbers as little-endian 32 bit floats. Against real[] it binds as one element of a bytea[] (UNNEST
-- would flatten real[][]) and is read without a header per number. It does not compress: EXTERNAL saves the attempt.
CREATE TABLE faces (
    face_id       uuid        PRIMARY KEY,
    collection    text        NOT NULL REFERENCES collections,
    person_id     uuid        NOT NULL REFERENCES persons,
    crop_id       uuid,
    image_hash    bytea       NOT NULL CHECK (octet_length(image_hash) = 32),
    embedding     bytea       NOT NULL CHECK (octet_length(embedding) > 0 AND octet_length(embedding) % 4 = 0),
    model         text        NOT NULL,
    box           jsonb,
    landmarks     jsonb,
    quality       jsonb,
    vector_state  text        NOT NULL DEFAULT 'pending' CHECK (vector_state IN ('pending', 'indexed', 'tombstoned')),
    cluster_id    uuid,
    captured_at   timestamptz NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE faces ALTER COLUMN embedding SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX faces_image ON faces (collection, image_hash) WHERE vector_state <> 'tombstoned';
CREATE INDEX faces_pending ON faces (face_id) WHERE vector_state = 'pending';
CREATE INDEX faces_person ON faces (person_id);

CREATE TABLE prototypes (
    prototype_id uuid        PRIMARY KEY,
    collection   text        NOT NULL REFERENCES collections,
    person_id    uuid        NOT NULL REFERENCES persons,
    kind         text        NOT NULL CHECK (kind IN ('exemplar', 'centroid')),
    face_id      uuid        REFERENCES faces ON DELETE CASCADE,
    embedding    bytea       CHECK (octet_length(embedding) > 0 AND octet_length(embedding) % 4 = 0),
    model        text        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT prototypes_source CHECK (
        (kind = 'exemplar' AND face_id IS NOT NULL AND embedding IS NULL)
        OR (kind = 'centroid' AND face_id IS NULL AND embedding IS NOT NULL)
    )
);
CREATE UNIQUE INDEX prototypes_face ON prototypes (face_id) WHERE face_id IS NOT NULL;
CREATE INDEX prototypes_person ON prototypes (person_id);

-- bytes, format and size are null where the row was rebuilt from its ending.
CREATE TABLE crops (
    crop_id     uuid        PRIMARY KEY,
    collection  text        NOT NULL,
    camera      text        NOT NULL,
    captured_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    image_hash  bytea       NOT NULL CHECK (octet_length(image_hash) = 32),
    bytes       bigint      CHECK (bytes >= 0),
    format      text,
    width       integer     CHECK (width >= 0),
    height      integer     CHECK (height >= 0),
    intent      text        NOT NULL CHECK (intent IN ('recognize', 'enroll', 'observe')),
    subject_id  text,
    face_count  integer     NOT NULL DEFAULT 1 CHECK (face_count >= 0),
    admitted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX crops_camera_time ON crops (collection, camera, captured_at);

-- One row an ending. The room left on each page lets published_at be set without touching an index.
CREATE TABLE recognitions (
    crop_id      uuid        NOT NULL,
    face_index   integer     NOT NULL CHECK (face_index >= 0),
    collection   text        NOT NULL,
    camera       text        NOT NULL,
    status       text        NOT NULL CHECK (status IN
        ('matched', 'no_match', 'enrolled', 'already_enrolled', 'observed', 'rejected', 'failed')),
    reason       text,
    stage        text        NOT NULL CHECK (stage IN ('ingest', 'quality', 'embed', 'match', 'enrich')),
    detail       jsonb,
    quality      jsonb,
    box          jsonb,
    decision     jsonb,
    person_id    uuid,
    face_id      uuid,
    similarity   real,
    threshold    real,
    runner_up    real,
    model        text,
    times        jsonb       NOT NULL DEFAULT '[]',
    received_at  timestamptz NOT NULL,
    finished_at  timestamptz NOT NULL,
    published_at timestamptz,
    PRIMARY KEY (crop_id, face_index),
    CONSTRAINT recognitions_reason_given CHECK
        ((reason IS NOT NULL) = (status IN ('no_match', 'rejected', 'failed')))
) WITH (fillfactor = 70);
CREATE INDEX recognitions_camera_time ON recognitions (collection, camera, finished_at);
CREATE INDEX recognitions_reason ON recognitions (status, reason, finished_at) WHERE reason IS NOT NULL;
CREATE INDEX recognitions_person ON recognitions (person_id, finished_at) WHERE person_id IS NOT NULL;

-- The history of what went wrong: a failed ending that a replay replaced stays here.
CREATE TABLE stage_failures (
    crop_id    uuid        NOT NULL,
    face_index integer     NOT NULL,
    stage      text        NOT NULL,
    status     text        NOT NULL CHECK (status IN ('rejected', 'failed')),
    reason     text        NOT NULL,
    signal     text,
    value      double precision,
    "limit"    double precision,
    message    text,
    collection text        NOT NULL,
    camera     text        NOT NULL,
    at         timestamptz NOT NULL,
    PRIMARY KEY (crop_id, face_index, stage, reason)
);
CREATE INDEX stage_failures_reason ON stage_failures (reason, at);
