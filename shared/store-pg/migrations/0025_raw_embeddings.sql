-- While a projection head serves, a face's own embedding in `faces` is the head's, of the model `<pack>+<head>`. What the head made it
-- of, the pack's own, is kept here: the gallery goes back to the pack, or on to another head, without an image.
CREATE TABLE raw_embeddings (
    face_id    uuid        NOT NULL REFERENCES faces ON DELETE CASCADE,
    model      text        NOT NULL CHECK (model <> ''),
    embedding  bytea       NOT NULL CHECK (octet_length(embedding) > 0 AND octet_length(embedding) % 4 = 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (face_id, model)
);
ALTER TABLE raw_embeddings ALTER COLUMN embedding SET STORAGE EXTERNAL;
