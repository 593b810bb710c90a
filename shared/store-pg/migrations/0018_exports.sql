-- Faces of a collection in pages, by id: for exports.
CREATE INDEX faces_by_collection ON faces (collection, face_id) WHERE vector_state <> 'tombstoned';
