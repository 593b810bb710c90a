-- Extractions have a column of their own, at the end: columns of a view keep their places.
CREATE OR REPLACE VIEW facewire_cameras AS
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
    max(finished_at) AS last_ended_at,
    count(*) FILTER (WHERE status = 'extracted') AS extracted
FROM facewire_endings
WHERE finished_at >= now() - interval '24 hours'
GROUP BY collection, camera;
