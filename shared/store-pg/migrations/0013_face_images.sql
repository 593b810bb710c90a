-- The faces of a collection in the order in which the object store lists their images, to compare the two.
CREATE INDEX faces_images ON faces (collection, image_hash, face_index) WHERE vector_state <> 'tombstoned';
