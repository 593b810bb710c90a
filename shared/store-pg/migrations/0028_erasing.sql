-- What leads an erasure to a face that is kept without a person, and to images of which no face is kept. Tables of their own: a column
-- of `faces` or `crops` would need an index, and to build one holds up everybody who writes to them.
SET LOCAL lock_timeout = '5s';

-- Who was recognised in a face that is kept without a person, at last. The result that says so goes after `retain_results`, and the face
-- may stay for ever. The person is no foreign key: an erased person's faces are gone, and a merged one is found by the merge.
CREATE TABLE matched_faces (
    face_id   uuid PRIMARY KEY REFERENCES faces ON DELETE CASCADE,
    person_id uuid NOT NULL
);
CREATE INDEX matched_faces_person ON matched_faces (person_id);

-- The producer's id of a crop's image, where it has one. Goes with the crop's row, or with an erasure.
CREATE TABLE crop_assets (
    crop_id    uuid PRIMARY KEY REFERENCES crops ON DELETE CASCADE,
    collection text NOT NULL,
    asset_id   text NOT NULL CHECK (asset_id <> '')
);
CREATE INDEX crop_assets_asset ON crop_assets (collection, asset_id);
