-- What HTTP needs beside people and faces: API keys, answers of repeated requests, webhooks with their queue, imports.

-- Made once by whoever needs one first. `api_keys`: the key of the hashes below.
CREATE TABLE secrets (
    name  text  PRIMARY KEY,
    value bytea NOT NULL CHECK (octet_length(value) = 32)
);

-- `hash`: HMAC-SHA-256 of the key's text. `collections`: null is all of them.
CREATE TABLE api_keys (
    key_id       uuid        PRIMARY KEY,
    name         text        NOT NULL CHECK (name <> ''),
    hash         bytea       NOT NULL CHECK (octet_length(hash) = 32),
    scopes       text[]      NOT NULL CHECK (cardinality(scopes) > 0),
    collections  text[]      CHECK (cardinality(collections) > 0),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    CONSTRAINT api_keys_hash UNIQUE (hash)
);

-- A request that may come again, and its answer. `key_id`: the nil UUID without an API key. `attempt` grows each time
-- that somebody takes over what another left unfinished; only the last one's answer counts.
CREATE TABLE idempotency (
    key_id          uuid        NOT NULL,
    idempotency_key text        NOT NULL CHECK (octet_length(idempotency_key) BETWEEN 1 AND 255),
    request_hash    bytea       NOT NULL CHECK (octet_length(request_hash) = 32),
    attempt         integer     NOT NULL DEFAULT 1,
    status          integer,
    content_type    text,
    body            bytea       CHECK (octet_length(body) <= 1048576),
    person_ids      uuid[]      NOT NULL DEFAULT '{}',
    started_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    PRIMARY KEY (key_id, idempotency_key),
    CONSTRAINT idempotency_answered CHECK
        ((finished_at IS NULL) = (status IS NULL) AND (status IS NULL) = (content_type IS NULL)
         AND (status IS NULL) = (body IS NULL))
);
CREATE INDEX idempotency_started ON idempotency (started_at);
CREATE INDEX idempotency_persons ON idempotency USING gin (person_ids) WHERE person_ids <> '{}';

-- `cursor_*`: sequence in RESULTS and EVENTS up to which deliveries were made.
CREATE TABLE webhooks (
    webhook_id      uuid        PRIMARY KEY,
    collection      text        REFERENCES collections ON DELETE CASCADE,
    url             text        NOT NULL CHECK (octet_length(url) BETWEEN 1 AND 2048),
    secret          text        NOT NULL CHECK (octet_length(secret) BETWEEN 1 AND 256),
    filter          jsonb       NOT NULL DEFAULT '{}',
    active          boolean     NOT NULL DEFAULT true,
    disabled_reason text,
    cursor_results  bigint      NOT NULL DEFAULT 0 CHECK (cursor_results >= 0),
    cursor_events   bigint      NOT NULL DEFAULT 0 CHECK (cursor_events >= 0),
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhooks_collection ON webhooks (collection) WHERE collection IS NOT NULL;

-- `next_at`: when it is due; null while an earlier one of the same webhook, source and order_key is pending. So the
-- first of each order_key alone is due, and finding what is due reads nothing else. The row of the webhook is locked by
-- whoever adds deliveries or ends them: otherwise one could be added behind the last pending one while that one ends.
CREATE TABLE webhook_deliveries (
    delivery_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    webhook_id  uuid        NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    source      text        NOT NULL CHECK (source IN ('results', 'events')),
    sequence    bigint      NOT NULL CHECK (sequence > 0),
    order_key   text        NOT NULL,
    person_ids  uuid[]      NOT NULL DEFAULT '{}',
    body        bytea       NOT NULL,
    attempts    integer     NOT NULL DEFAULT 0,
    next_at     timestamptz,
    state       text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
    last_error  text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    CONSTRAINT webhook_deliveries_once UNIQUE (webhook_id, source, sequence),
    CONSTRAINT webhook_deliveries_ended CHECK ((state = 'pending') = (ended_at IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_at)
    WHERE state = 'pending' AND next_at IS NOT NULL;
CREATE INDEX webhook_deliveries_order ON webhook_deliveries (webhook_id, source, order_key, sequence) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_dead ON webhook_deliveries (webhook_id, delivery_id) WHERE state = 'dead';
CREATE INDEX webhook_deliveries_over ON webhook_deliveries (ended_at) WHERE state <> 'pending';
CREATE INDEX webhook_deliveries_waiting ON webhook_deliveries (webhook_id, created_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_persons ON webhook_deliveries USING gin (person_ids) WHERE person_ids <> '{}';

-- `actor`: who began it, with `key`, `name` and `request`.
CREATE TABLE imports (
    import_id   uuid        PRIMARY KEY,
    collection  text        NOT NULL REFERENCES collections ON DELETE CASCADE,
    state       text        NOT NULL DEFAULT 'receiving' CHECK (state IN ('receiving', 'running', 'finished', 'cancelled')),
    total       bigint      NOT NULL DEFAULT 0,
    actor       jsonb       NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT imports_ended CHECK ((state IN ('finished', 'cancelled')) = (finished_at IS NOT NULL))
);
CREATE INDEX imports_open ON imports (created_at) WHERE state IN ('receiving', 'running');
CREATE INDEX imports_collection ON imports (collection, created_at);

-- `due_at`: when it may be claimed. A claimed item is due again after its lease, a sent one when its result should have
-- come. `subject` and `person_id` are null where the person was erased, and where the item names nobody.
CREATE TABLE import_items (
    import_id  uuid        NOT NULL REFERENCES imports ON DELETE CASCADE,
    item       bigint      NOT NULL CHECK (item >= 0),
    image_hash bytea       NOT NULL CHECK (octet_length(image_hash) = 32),
    person_id  uuid,
    subject    text        CHECK (subject <> ''),
    name       text        CHECK (name <> ''),
    metadata   jsonb       NOT NULL DEFAULT '{}',
    crop_id    uuid,
    state      text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'done')),
    status     text,
    reason     text,
    detail     jsonb,
    face_id    uuid,
    attempts   integer     NOT NULL DEFAULT 0,
    due_at     timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (import_id, item),
    CONSTRAINT import_items_ended CHECK ((state = 'done') = (status IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX import_items_due ON import_items (import_id, due_at, item) WHERE state <> 'done';
CREATE INDEX import_items_crop ON import_items (crop_id) WHERE state = 'sent';
CREATE INDEX import_items_person ON import_items (person_id) WHERE person_id IS NOT NULL;

-- Endings of a collection by time, newest first, in pages; retention reads it too. Of a camera, of a person and of a
-- reason there are indexes already (0001). Enrolments are few among recognitions: they have an index of their own.
CREATE INDEX recognitions_collection_time ON recognitions (collection, finished_at, crop_id, face_index);
CREATE INDEX recognitions_enrolments ON recognitions (status, finished_at) WHERE status IN ('enrolled', 'already_enrolled');
