-- Embeddings of the faces by a model that does not serve yet, made from kept images. Once the model serves, its embedding here
-- stands for the one in `faces`, at once for every face; the rows are then moved there in steps.
CREATE TABLE reembeddings (
    face_id    uuid        NOT NULL REFERENCES faces ON DELETE CASCADE,
    model      text        NOT NULL CHECK (model <> ''),
    embedding  bytea       NOT NULL CHECK (octet_length(embedding) > 0 AND octet_length(embedding) % 4 = 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (face_id, model)
);
ALTER TABLE reembeddings ALTER COLUMN embedding SET STORAGE EXTERNAL;
CREATE INDEX reembeddings_model ON reembeddings (model, face_id);
