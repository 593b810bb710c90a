-- The faces of which a human said whose they are, in pages: what a calibration from corrections reads. What they said a face is not
-- is read by the key of `face_negatives`.
CREATE INDEX faces_confirmed_by_id ON faces (collection, face_id) WHERE confirmed AND vector_state <> 'tombstoned';
