-- The model whose embeddings the vector index holds. A service with another pack compares nothing, and a rebuild with another
-- pack is refused, until an operator switches it.
CREATE TABLE serving (
    name              text        PRIMARY KEY DEFAULT 'index',
    model             text        NOT NULL CHECK (model <> ''),
    dim               integer     NOT NULL CHECK (dim > 0),
    qdrant_collection text,
    since             timestamptz NOT NULL DEFAULT now()
);
