-- When everything was compared last, whichever process did it: a schedule in memory would begin anew with each restart.
CREATE TABLE passes (
    name text        PRIMARY KEY,
    at   timestamptz NOT NULL
);
