-- `reembed`: the embedding is another model's than the one that serves. Such a face has no point, and waits to be enrolled
-- anew from its image; the rows in this state are the queue.
ALTER TABLE faces DROP CONSTRAINT faces_vector_state_check;
ALTER TABLE faces ADD CONSTRAINT faces_vector_state_check
    CHECK (vector_state IN ('pending', 'indexed', 'tombstoned', 'reembed'));
CREATE INDEX faces_reembed ON faces (face_id) WHERE vector_state = 'reembed';

-- Who may repair: the holder of the highest token. A holder that lost its lease without noticing finds a higher one here.
CREATE TABLE fences (
    name  text   PRIMARY KEY,
    token bigint NOT NULL
);
