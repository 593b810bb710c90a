-- Whether a crop is a whole frame, of which every face is a result of its own: a frame with one face is judged as a frame, and
-- its number of faces does not tell. Of earlier rows those with several faces are known to be frames.
ALTER TABLE crops ADD COLUMN frame boolean NOT NULL DEFAULT false;
UPDATE crops SET frame = true WHERE face_count > 1;

CREATE OR REPLACE VIEW facewire_endings AS
SELECT
    r.crop_id, r.face_index, r.collection, r.camera, c.intent, c.face_count, c.captured_at, r.received_at, r.finished_at,
    r.published_at,
    (extract(epoch FROM r.finished_at - r.received_at) * 1000)::double precision AS latency_ms,
    r.status, r.reason, r.stage,
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
    r.person_id, r.face_id, r.similarity, r.threshold, r.runner_up, r.model,
    nullif((r.quality->>'embedding_length')::double precision, 0) AS embedding_length,
    (r.quality->>'score')::double precision AS score, coalesce(c.frame, false) AS frame
FROM recognitions r LEFT JOIN crops c ON c.crop_id = r.crop_id;


CREATE OR REPLACE VIEW facewire_signals AS
SELECT e.crop_id, e.face_index, e.collection, e.camera, e.face_count, e.finished_at, e.status, e.reason, s.signal, s.value,
       coalesce(e.signal = s.signal OR (s.signal = 'brightness' AND e.signal IN ('too_dark', 'too_bright')), false) AS decisive,
       e.frame
FROM facewire_endings e CROSS JOIN LATERAL (VALUES
    ('face_size', e.face_size), ('landmarks_score', e.landmarks_score), ('yaw', e.yaw), ('pitch', e.pitch),
    ('roll', e.roll), ('brightness', e.brightness), ('blur', e.blur), ('face_ratio', e.face_ratio),
    ('detection_score', e.detection_score), ('embedding_length', e.embedding_length), ('score', e.score)
) AS s (signal, value)
WHERE e.measured AND NOT (s.signal = 'embedding_length' AND s.value IS NULL);
