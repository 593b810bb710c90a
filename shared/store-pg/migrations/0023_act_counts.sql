-- Acts are listed, the newest first, with how much each of them changed: counted when it is done, since an act may have moved
-- hundreds of thousands of faces. `faces`: that it moved; `clusters`: that it made, dissolved or labelled; null where an earlier
-- release did it, and then they are counted when they are asked for.
ALTER TABLE acts
    ADD COLUMN faces    bigint CHECK (faces >= 0),
    ADD COLUMN clusters bigint CHECK (clusters >= 0);

CREATE INDEX acts_newest ON acts (at, act_id);
CREATE INDEX acts_newest_of ON acts (collection, at, act_id);
DROP INDEX acts_at;
DROP INDEX acts_collection;
