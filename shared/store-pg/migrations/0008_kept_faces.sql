-- Faces that are kept without a person (a collection's `keep_faces`). `origin`: `enrolled` faces are what recognition compares
-- with and have one row an image; `kept` ones came with a crop, have one row a face of it, and may get a person later, under
-- the same id. `assigned_by`: `enrolment`, or the user or job that gave the face its person.
ALTER TABLE faces ALTER COLUMN person_id DROP NOT NULL;
ALTER TABLE faces ADD COLUMN face_index  integer     NOT NULL DEFAULT 0 CHECK (face_index >= 0);
ALTER TABLE faces ADD COLUMN origin      text        NOT NULL DEFAULT 'enrolled' CHECK (origin IN ('enrolled', 'kept'));
ALTER TABLE faces ADD COLUMN asset_id    text        CHECK (asset_id <> '');
ALTER TABLE faces ADD COLUMN assigned_by text;
ALTER TABLE faces ADD COLUMN assigned_at timestamptz;
UPDATE faces SET assigned_by = 'enrolment', assigned_at = created_at;
ALTER TABLE faces ADD CONSTRAINT faces_assigned CHECK (person_id IS NULL OR assigned_by IS NOT NULL);
ALTER TABLE faces ADD CONSTRAINT faces_enrolled CHECK (person_id IS NOT NULL OR origin = 'kept');

-- The same picture may be kept for each of its faces and enrolled besides: only enrolled images are unique.
DROP INDEX faces_image;
CREATE UNIQUE INDEX faces_image ON faces (collection, image_hash) WHERE origin = 'enrolled' AND vector_state <> 'tombstoned';
DROP INDEX faces_person;
CREATE INDEX faces_person ON faces (person_id) WHERE person_id IS NOT NULL;
CREATE INDEX faces_asset ON faces (collection, asset_id) WHERE asset_id IS NOT NULL;
-- What retention looks at: the oldest without a person.
CREATE INDEX faces_unmatched ON faces (collection, created_at) WHERE person_id IS NULL AND vector_state <> 'tombstoned';
-- Whose points have to go, within seconds.
CREATE INDEX faces_tombstoned ON faces (face_id) WHERE vector_state = 'tombstoned';
-- What changed since a time, in pages, so that a rebuild catches up without reading every face.
CREATE INDEX faces_updated ON faces (updated_at, face_id);
-- How many there are in a collection, read from the index alone. Few values: it holds each once for many rows.
CREATE INDEX faces_collection ON faces (collection, vector_state);
-- Which models the faces are of. As small.
CREATE INDEX faces_model ON faces (model);
