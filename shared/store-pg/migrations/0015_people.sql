-- What changed, who changed it, and what has yet to be published of it on EVENTS: one row a change, written in the transaction of
-- the change. A row without a collection is no event. `other_person_id`: the second person of a merge, or whose face it was before.
-- `detail` holds no name and no id of a person, so that erasing a person has two columns to look at.
CREATE TABLE audit (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    collection      text,
    kind            text        NOT NULL CHECK (kind <> ''),
    person_id       uuid,
    other_person_id uuid,
    face_id         uuid,
    actor_key       uuid,
    actor           text        NOT NULL CHECK (actor <> '' AND char_length(actor) <= 200),
    request_id      text        CHECK (char_length(request_id) <= 128),
    detail          jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(detail) = 'object'),
    published_at    timestamptz
);
CREATE INDEX audit_collection ON audit (collection, id);
CREATE INDEX audit_person ON audit (person_id, id) WHERE person_id IS NOT NULL;
CREATE INDEX audit_other_person ON audit (other_person_id) WHERE other_person_id IS NOT NULL;
CREATE INDEX audit_unpublished ON audit (id) WHERE published_at IS NULL AND collection IS NOT NULL;

-- Raised by every statement that changes the row: what a client read is compared with it before it is changed.
ALTER TABLE persons ADD COLUMN version integer NOT NULL DEFAULT 1 CHECK (version >= 1);
-- Names by their beginning, whatever the database's locale.
CREATE INDEX persons_name_prefix ON persons (collection, name_key text_pattern_ops);

-- Each merge and the faces that it moved, so that it can be undone. `prototypes`: those that are of no single face.
CREATE TABLE merges (
    merge_id   uuid        PRIMARY KEY,
    collection text        NOT NULL,
    source     uuid        NOT NULL REFERENCES persons ON DELETE CASCADE,
    target     uuid        NOT NULL REFERENCES persons ON DELETE CASCADE,
    hidden     boolean     NOT NULL,
    prototypes uuid[]      NOT NULL DEFAULT '{}',
    at         timestamptz NOT NULL DEFAULT now(),
    actor      text        NOT NULL,
    undone_at  timestamptz,
    undone_by  text
);
CREATE INDEX merges_source ON merges (source);
CREATE INDEX merges_target ON merges (target);
CREATE TABLE merge_faces (
    merge_id uuid NOT NULL REFERENCES merges ON DELETE CASCADE,
    face_id  uuid NOT NULL REFERENCES faces ON DELETE CASCADE,
    PRIMARY KEY (merge_id, face_id)
);
CREATE INDEX merge_faces_face ON merge_faces (face_id);

-- Faces of which somebody said that they are not this person's. `stated_of`: the person of whom it was said; another one than
-- `person_id` where that person was merged into it, so that undoing the merge takes the copy away.
CREATE TABLE face_negatives (
    face_id   uuid        NOT NULL REFERENCES faces ON DELETE CASCADE,
    person_id uuid        NOT NULL REFERENCES persons ON DELETE CASCADE,
    stated_of uuid        NOT NULL REFERENCES persons ON DELETE CASCADE,
    at        timestamptz NOT NULL DEFAULT now(),
    actor     text        NOT NULL,
    PRIMARY KEY (face_id, person_id, stated_of)
);
CREATE INDEX face_negatives_person ON face_negatives (person_id, at);
CREATE INDEX face_negatives_stated_of ON face_negatives (stated_of);

-- Receipts: what was erased, when and by whom; unfinished while `finished_at` is null. `subject`: the person's id, the image's hash
-- or id, the time, or nothing for a whole collection.
CREATE TABLE erasures (
    erasure_id  uuid        PRIMARY KEY,
    collection  text        NOT NULL,
    kind        text        NOT NULL CHECK (kind IN ('person', 'image', 'asset', 'before', 'collection')),
    subject     text        NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    actor_key   uuid,
    actor       text        NOT NULL,
    request_id  text,
    receipt     jsonb       NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX erasures_unfinished ON erasures (collection, kind, subject) WHERE finished_at IS NULL;

-- What was erased and may not come back with a crop that was received before. `key`: the 16 bytes of a person's id (itself a hash
-- of collection and subject), the 32 of an image's hash, or nothing, which is everything of the collection.
CREATE TABLE tombstones (
    collection text        NOT NULL,
    key        bytea       NOT NULL CHECK (octet_length(key) IN (0, 16, 32)),
    at         timestamptz NOT NULL,
    PRIMARY KEY (collection, key)
);

-- A person's faces in pages.
DROP INDEX faces_person;
CREATE INDEX faces_person ON faces (person_id, face_id) WHERE person_id IS NOT NULL;
-- The enrolments of a subject, to erase those that came to nothing as well.
CREATE INDEX crops_subject ON crops (collection, subject_id) WHERE subject_id IS NOT NULL;
