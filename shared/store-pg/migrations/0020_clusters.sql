-- From faces to people: clusters of the faces that are nobody's, what was done with many faces at once and how it is undone, and
-- whose prototypes are out of date.

-- `cluster_id`: the face's cluster, where it is in one. `cluster_probability`: how firmly it belongs there; `cluster_outlier`: how
-- far it is from what is dense around it; both 0 to 1, and null where no clustering has judged it as it is now. `confirmed`: a
-- human, and no job, said whose it is.
ALTER TABLE faces
    ADD COLUMN cluster_probability real,
    ADD COLUMN cluster_outlier     real,
    ADD COLUMN confirmed           boolean NOT NULL DEFAULT false;
UPDATE faces SET confirmed = true WHERE person_id IS NOT NULL;
ALTER TABLE faces ADD CONSTRAINT faces_confirmed CHECK (person_id IS NOT NULL OR NOT confirmed);
-- What clustering and assignment read, in pages.
CREATE INDEX faces_unknown ON faces (collection, face_id) WHERE person_id IS NULL AND vector_state <> 'tombstoned';
-- A cluster's faces, outliers first.
CREATE INDEX faces_cluster ON faces (cluster_id, (coalesce(cluster_outlier, 0)) DESC, face_id)
    WHERE cluster_id IS NOT NULL AND vector_state <> 'tombstoned';

-- How many clusters of the collection ever had a number: none is given twice.
ALTER TABLE collections ADD COLUMN numbered_clusters bigint NOT NULL DEFAULT 0;

-- Open (no person, not dissolved): its faces are nobody's. Labelled: its person's, whoever they were merged into since. `centroid`:
-- the mean of its embeddings by `model`; null where it is not known, as after a face was erased, until somebody computes it anew.
-- `parent`: the cluster that was split, and `splits` how many were split off this one. A face refers here without a foreign key:
-- it would be checked for each face of a run.
CREATE TABLE clusters (
    cluster_id   uuid        PRIMARY KEY,
    collection   text        NOT NULL REFERENCES collections ON DELETE CASCADE,
    public_id    text        NOT NULL CHECK (public_id <> ''),
    number       bigint      NOT NULL CHECK (number >= 1),
    person_id    uuid        REFERENCES persons ON DELETE SET NULL,
    model        text        NOT NULL CHECK (model <> ''),
    centroid     bytea       CHECK (octet_length(centroid) > 0 AND octet_length(centroid) % 4 = 0),
    parent       uuid,
    splits       integer     NOT NULL DEFAULT 0 CHECK (splits >= 0),
    job_id       uuid,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    dissolved_at timestamptz,
    CONSTRAINT clusters_public_id UNIQUE (collection, public_id),
    CONSTRAINT clusters_number UNIQUE (collection, number)
);
CREATE INDEX clusters_person ON clusters (person_id) WHERE person_id IS NOT NULL;
CREATE INDEX clusters_dissolved ON clusters (dissolved_at) WHERE dissolved_at IS NOT NULL;

-- Each change of many faces, with what undoing it needs. A job has at most one act of a kind, so that whoever does its work again
-- finds that it was done. `detail` holds counts, and no name and no id of a person. `expired`: its faces are being removed.
CREATE TABLE acts (
    act_id     uuid        PRIMARY KEY,
    collection text        NOT NULL REFERENCES collections ON DELETE CASCADE,
    kind       text        NOT NULL CHECK (kind IN ('cluster', 'assign', 'label', 'split')),
    job_id     uuid,
    detail     jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(detail) = 'object'),
    at         timestamptz NOT NULL DEFAULT now(),
    actor_key  uuid,
    actor      text        NOT NULL,
    undone_at  timestamptz,
    undone_by  text,
    expired    boolean     NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX acts_job ON acts (job_id, kind) WHERE job_id IS NOT NULL AND undone_at IS NULL;
CREATE INDEX acts_collection ON acts (collection);
CREATE INDEX acts_at ON acts (at);

-- Whose a face was before the act and in which cluster, and what the act made of it. Goes with the face, and with the person.
CREATE TABLE act_faces (
    act_id         uuid NOT NULL REFERENCES acts ON DELETE CASCADE,
    face_id        uuid NOT NULL REFERENCES faces ON DELETE CASCADE,
    former_person  uuid REFERENCES persons ON DELETE CASCADE,
    former_cluster uuid,
    person         uuid REFERENCES persons ON DELETE CASCADE,
    cluster        uuid,
    PRIMARY KEY (act_id, face_id)
);
CREATE INDEX act_faces_face ON act_faces (face_id);
CREATE INDEX act_faces_person ON act_faces (person) WHERE person IS NOT NULL;
CREATE INDEX act_faces_former_person ON act_faces (former_person) WHERE former_person IS NOT NULL;

CREATE TABLE act_clusters (
    act_id     uuid NOT NULL REFERENCES acts ON DELETE CASCADE,
    cluster_id uuid NOT NULL REFERENCES clusters ON DELETE CASCADE,
    change     text NOT NULL CHECK (change IN ('created', 'dissolved', 'labelled')),
    PRIMARY KEY (act_id, cluster_id)
);
CREATE INDEX act_clusters_cluster ON act_clusters (cluster_id);

-- Until now nobody wrote prototypes. They go with their person, and are read in pages.
ALTER TABLE prototypes
    DROP CONSTRAINT prototypes_person_id_fkey,
    ADD CONSTRAINT prototypes_person_id_fkey FOREIGN KEY (person_id) REFERENCES persons ON DELETE CASCADE;
CREATE INDEX prototypes_collection ON prototypes (collection, prototype_id);

-- Persons whose prototypes are to be chosen anew, because their faces changed. Everybody who is there has none yet.
CREATE TABLE stale_prototypes (
    person_id  uuid        PRIMARY KEY REFERENCES persons ON DELETE CASCADE,
    collection text        NOT NULL,
    since      timestamptz NOT NULL
);
CREATE INDEX stale_prototypes_since ON stale_prototypes (since);
INSERT INTO stale_prototypes (person_id, collection, since)
SELECT p.person_id, p.collection, now() FROM persons p
WHERE EXISTS (SELECT FROM faces f WHERE f.person_id = p.person_id AND f.vector_state <> 'tombstoned');

-- Once a statement, whoever changes faces and however many. A face on its way into the vector engine counts like one that is
-- there. Persons in the order of their ids: no deadlock. `since` is the time of the change: whoever chose prototypes before removes
-- nothing that came later.
CREATE FUNCTION faces_were_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM new_faces WHERE person_id IS NOT NULL) THEN
        INSERT INTO stale_prototypes (person_id, collection, since)
        SELECT p.person_id, p.collection, clock_timestamp() FROM persons p
        WHERE p.person_id IN (SELECT n.person_id FROM new_faces n WHERE n.vector_state IN ('pending', 'indexed'))
        ORDER BY p.person_id
        ON CONFLICT (person_id) DO UPDATE SET since = EXCLUDED.since;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER faces_inserted AFTER INSERT ON faces
    REFERENCING NEW TABLE AS new_faces FOR EACH STATEMENT EXECUTE FUNCTION faces_were_inserted();

CREATE FUNCTION faces_were_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM new_faces WHERE person_id IS NOT NULL)
        OR EXISTS (SELECT FROM old_faces WHERE person_id IS NOT NULL) THEN
        WITH changed AS (
            SELECT o.person_id AS former, n.person_id AS present FROM old_faces o JOIN new_faces n ON n.face_id = o.face_id
            WHERE o.person_id IS DISTINCT FROM n.person_id OR o.model <> n.model
                OR (o.vector_state IN ('pending', 'indexed')) <> (n.vector_state IN ('pending', 'indexed'))
        )
        INSERT INTO stale_prototypes (person_id, collection, since)
        SELECT p.person_id, p.collection, clock_timestamp() FROM persons p
        WHERE p.person_id IN (SELECT former FROM changed UNION SELECT present FROM changed)
        ORDER BY p.person_id
        ON CONFLICT (person_id) DO UPDATE SET since = EXCLUDED.since;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER faces_updated AFTER UPDATE ON faces
    REFERENCING OLD TABLE AS old_faces NEW TABLE AS new_faces FOR EACH STATEMENT EXECUTE FUNCTION faces_were_updated();

-- A cluster that lost a face for good has no centroid that still holds it.
CREATE FUNCTION faces_were_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM old_faces WHERE person_id IS NOT NULL) THEN
        INSERT INTO stale_prototypes (person_id, collection, since)
        SELECT p.person_id, p.collection, clock_timestamp() FROM persons p
        WHERE p.person_id IN (SELECT o.person_id FROM old_faces o WHERE o.vector_state IN ('pending', 'indexed'))
        ORDER BY p.person_id
        ON CONFLICT (person_id) DO UPDATE SET since = EXCLUDED.since;
    END IF;
    IF EXISTS (SELECT FROM old_faces WHERE cluster_id IS NOT NULL) THEN
        PERFORM FROM clusters c WHERE c.cluster_id IN (SELECT o.cluster_id FROM old_faces o)
        ORDER BY c.cluster_id FOR NO KEY UPDATE;
        UPDATE clusters SET centroid = NULL, updated_at = clock_timestamp()
        WHERE cluster_id IN (SELECT o.cluster_id FROM old_faces o);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER faces_deleted AFTER DELETE ON faces
    REFERENCING OLD TABLE AS old_faces FOR EACH STATEMENT EXECUTE FUNCTION faces_were_deleted();
