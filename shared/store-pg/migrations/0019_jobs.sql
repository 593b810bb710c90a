-- Long work on a collection: what it is told, where it is, and what came of it. Whoever works on a job has it until
-- `lease_until`, and writes with its `attempt`, which grows each time that a job is taken up or queued again: what
-- comes with an older one does not count. `attempts_from`: attempts up to this number do not count as failed ones. Two
-- jobs of a collection never run at once: each changes whose faces are whose. `result` and `params` may hold ids of
-- people, but no names.
CREATE TABLE jobs (
    job_id           uuid        PRIMARY KEY,
    kind             text        NOT NULL CHECK (kind IN ('cluster', 'assign', 'prototypes')),
    collection       text        NOT NULL REFERENCES collections ON DELETE CASCADE,
    params           jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(params) = 'object'),
    state            text        NOT NULL DEFAULT 'queued'
                                 CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    attempt          integer     NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    attempts_from    integer     NOT NULL DEFAULT 0 CHECK (attempts_from BETWEEN 0 AND attempt),
    worker           text,
    lease_until      timestamptz,
    cancel_requested boolean     NOT NULL DEFAULT false,
    phase            text,
    done             bigint      NOT NULL DEFAULT 0,
    total            bigint,
    result           jsonb,
    error            text,
    actor_key        uuid,
    actor            text        NOT NULL,
    request_id       text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    started_at       timestamptz,
    finished_at      timestamptz,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT jobs_leased CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CONSTRAINT jobs_ended CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX jobs_running ON jobs (collection) WHERE state = 'running';
CREATE INDEX jobs_created ON jobs (created_at, job_id);
CREATE INDEX jobs_collection ON jobs (collection, created_at, job_id);
CREATE INDEX jobs_open ON jobs (created_at, job_id) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_over ON jobs (finished_at) WHERE finished_at IS NOT NULL;
