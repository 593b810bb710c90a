-- What operators and BI tools read: docs/SQL.md says what each column means, and `facewire cameras` and `facewire failures`
-- read nothing else, so that no two answers differ. Views are of rows, so that a range of `finished_at` (or `at`) reaches the
-- tables' indexes. No name and no embedding of a person may come in here: a reader of these views needs no other right.

-- One row an ending. The signals are null where no face was measured (`measured` is false: rejected before the gate, or
-- none found), and where the measured value was no number.
CREATE VIEW facewire_endings AS
SELECT
    r.crop_id, r.face_index, r.collection, r.camera, c.intent, c.face_count, c.captured_at, r.received_at, r.finished_at,
    r.published_at,
    (extract(epoch FROM r.finished_at - r.received_at) * 1000)::double precision AS latency_ms,
    r.status, r.reason, r.stage,
    -- What broke its limit. A pose is told by its axis, a miss by the similarity that was too low.
    CASE
        WHEN r.detail ? 'similarity' THEN 'similarity'
        WHEN r.detail->>'signal' = 'pose' AND r.detail->>'message' IN ('yaw', 'pitch', 'roll') THEN r.detail->>'message'
        ELSE r.detail->>'signal'
    END AS signal,
    coalesce(r.detail->>'similarity', r.detail->>'value')::double precision AS signal_value,
    coalesce(r.detail->>'threshold', r.detail->>'limit')::double precision AS signal_limit,
    CASE WHEN r.detail->>'signal' = 'pose' THEN NULL ELSE r.detail->>'message' END AS message,
    r.quality IS NOT NULL AS measured,
    (r.quality->>'face_size')::double precision AS face_size,
    (r.quality->>'landmarks_score')::double precision AS landmarks_score,
    (r.quality->'pose'->>'yaw')::double precision AS yaw,
    (r.quality->'pose'->>'pitch')::double precision AS pitch,
    (r.quality->'pose'->>'roll')::double precision AS roll,
    (r.quality->>'brightness')::double precision AS brightness,
    (r.quality->>'blur')::double precision AS blur,
    (r.quality->>'face_ratio')::double precision AS face_ratio,
    (r.quality->>'detection_score')::double precision AS detection_score,
    (r.quality->>'score')::double precision AS quality_score,
    r.person_id, r.face_id, r.similarity, r.threshold, r.runner_up, r.model
FROM recognitions r LEFT JOIN crops c ON c.crop_id = r.crop_id;

-- The measured signals in long form: one row a face and signal, for distributions. `broke`: this signal ended the face.
CREATE VIEW facewire_signals AS
SELECT e.crop_id, e.face_index, e.collection, e.camera, e.face_count, e.finished_at, e.status, e.reason, s.signal, s.value,
       coalesce(e.signal = s.signal OR (s.signal = 'brightness' AND e.signal IN ('too_dark', 'too_bright')), false) AS broke
FROM facewire_endings e CROSS JOIN LATERAL (VALUES
    ('face_size', e.face_size), ('landmarks_score', e.landmarks_score), ('yaw', e.yaw), ('pitch', e.pitch),
    ('roll', e.roll), ('brightness', e.brightness), ('blur', e.blur), ('face_ratio', e.face_ratio),
    ('detection_score', e.detection_score)
) AS s (signal, value)
WHERE e.measured;

-- Every ending that is no success, and (`stands` is false) failures that a replay has made good since.
CREATE VIEW facewire_failures AS
SELECT finished_at AS at, collection, camera, crop_id, face_index, status, reason, stage, signal, signal_value, signal_limit,
       message, true AS stands
FROM facewire_endings WHERE reason IS NOT NULL
UNION ALL
SELECT f.at, f.collection, f.camera, f.crop_id, f.face_index, f.status, f.reason, f.stage, f.signal, f.value, f."limit",
       f.message, false
FROM stage_failures f
WHERE f.status = 'failed' AND NOT EXISTS (
    SELECT 1 FROM recognitions r
    WHERE r.crop_id = f.crop_id AND r.face_index = f.face_index AND r.status = f.status AND r.stage = f.stage
      AND r.reason = f.reason);

-- The cameras of the last 24 hours. `usable`: faces that were not rejected, of those that did not fail (a failure is no
-- fault of the camera). `success`: endings without a reason, of all. `worst_*`: the commonest cause of a rejection.
CREATE VIEW facewire_cameras AS
SELECT collection, camera,
    count(*) FILTER (WHERE face_index = 0) AS crops,
    count(*) AS faces,
    count(*) FILTER (WHERE measured) AS measured,
    count(*) FILTER (WHERE status = 'matched') AS matched,
    count(*) FILTER (WHERE status = 'no_match') AS no_match,
    count(*) FILTER (WHERE status = 'enrolled') AS enrolled,
    count(*) FILTER (WHERE status = 'already_enrolled') AS already_enrolled,
    count(*) FILTER (WHERE status = 'observed') AS observed,
    count(*) FILTER (WHERE status = 'rejected') AS rejected,
    count(*) FILTER (WHERE status = 'failed') AS failed,
    count(*) FILTER (WHERE status NOT IN ('rejected', 'failed'))::double precision
        / nullif(count(*) FILTER (WHERE status <> 'failed'), 0) AS usable,
    count(*) FILTER (WHERE reason IS NULL)::double precision / count(*) AS success,
    mode() WITHIN GROUP (ORDER BY reason) FILTER (WHERE status = 'rejected') AS worst_reason,
    mode() WITHIN GROUP (ORDER BY coalesce(signal, reason)) FILTER (WHERE status = 'rejected') AS worst_signal,
    max(finished_at) AS last_ended_at
FROM facewire_endings
WHERE finished_at >= now() - interval '24 hours'
GROUP BY collection, camera;
