-- Which ending of a face the row holds: 1, and one more each time that an ending took another's place. The result of each
-- generation is a message of its own, and a process marks only the generation that it published.
ALTER TABLE recognitions ADD COLUMN generation integer NOT NULL DEFAULT 1 CHECK (generation >= 1);

-- `extract` and `extracted`: the embedding goes to whoever asked, and nothing biometric is stored. NOT VALID: the rows that are
-- there hold less than the new checks allow, so none has to be read.
ALTER TABLE crops DROP CONSTRAINT crops_intent_check;
ALTER TABLE crops ADD CONSTRAINT crops_intent_check
    CHECK (intent IN ('recognize', 'enroll', 'observe', 'extract')) NOT VALID;
ALTER TABLE recognitions DROP CONSTRAINT recognitions_status_check;
ALTER TABLE recognitions ADD CONSTRAINT recognitions_status_check CHECK (status IN
    ('matched', 'no_match', 'enrolled', 'already_enrolled', 'observed', 'extracted', 'rejected', 'failed')) NOT VALID;
