-- What leads an erasure to a face that is kept without a person, and to images of which no face is kept.
SET LOCAL lock_timeout = '5s';

-- Who was recognised in a face that is kept without a person, at last. The result that says so goes after `retain_results`, and the face
-- may stay for ever. No foreign key: an erased person's faces are gone, and a merged one is found by the merge.
ALTER TABLE faces ADD COLUMN matched_person_id uuid;
CREATE INDEX faces_matched ON faces (matched_person_id) WHERE matched_person_id IS NOT NULL;

-- The producer's id of the image. Null where there is none, where the row was rebuilt from its ending, and where it was erased.
ALTER TABLE crops ADD COLUMN asset_id text;
CREATE INDEX crops_asset ON crops (collection, asset_id) WHERE asset_id IS NOT NULL;
