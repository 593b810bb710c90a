//! Subjects, stream names and message ids: spelled here and nowhere else.

use facewire_domain::{CameraId, CollectionId, CropId, JobId, JobKind, Reason, Stage};

use crate::v1;

/// Results for consumers.
pub const RESULTS: &str = "RESULTS";
/// Messages that were given up.
pub const DEAD: &str = "DEAD";
/// What people and jobs changed.
pub const EVENTS: &str = "EVENTS";
/// Long work: a message a job, which says only which job it is.
pub const JOBS: &str = "JOBS";
/// What JOBS listens to.
pub const JOBS_FILTER: &str = "jobs.*";
/// The durable pull consumer of JOBS.
pub const JOBS_CONSUMER: &str = "jobs";
/// First token of the subjects on which replies to crops are waited for. A prefix of its own, and not NATS' `_INBOX`, so that
/// `enrich` needs no permission to write to the answers of other clients' requests. A producer with few rights waits on
/// `replies.<its user>.…`.
pub const REPLIES: &str = "replies";
/// Where our own processes wait: `replies.gateway.<process>.<request>`.
pub const GATEWAY_REPLIES: &str = "replies.gateway";

/// What the stage's stream listens to.
pub fn filter(stage: Stage) -> String {
    match stage {
        Stage::Ingest => "crops.*.*".to_owned(),
        other => format!("stage.{other}.*"),
    }
}

/// The durable pull consumer of a stage: KEDA watches its lag.
pub fn consumer(stage: Stage) -> &'static str {
    stage.service()
}

/// Where a producer publishes a crop.
pub fn crops(collection: &CollectionId, camera: &CameraId) -> String {
    format!("crops.{collection}.{camera}")
}

/// Where a stage's work for a collection goes. `Ingest` has no such subject: crops come from producers. What a damaged
/// message calls its collection may be no name: its work goes to `_`, for no stream would ever take it elsewhere, and the
/// publish would be tried again for ever.
pub fn stage(stage: Stage, collection: &str) -> String {
    let collection = if collection.parse::<CollectionId>().is_ok() { collection } else { "_" };
    format!("stage.{stage}.{collection}")
}

/// Where the result of a camera's crop goes.
pub fn results(collection: &str, camera: &str) -> String {
    format!("results.{collection}.{camera}")
}

/// Where a message that was given up goes.
pub fn dead(stage: Stage, reason: Reason) -> String {
    format!("dead.{stage}.{reason}")
}

/// Where an event of a collection goes; the dot of its kind (`person.merged`) becomes `_`.
pub fn event(collection: &CollectionId, kind: &str) -> String {
    format!("events.{collection}.{}", kind.replace('.', "_"))
}

/// Where the message of a job goes.
pub fn job(kind: JobKind) -> String {
    format!("jobs.{kind}")
}

/// The kind of a job by the subject of its message; `None`: there is no such kind.
pub fn job_kind(subject: &str) -> Option<JobKind> {
    subject.strip_prefix("jobs.")?.parse().ok()
}

/// The id of a job's message. A job that is queued again is in another attempt, and its message must not be dropped as
/// a duplicate of the one before.
pub fn job_message_id(job: JobId, attempt: u32) -> String {
    format!("job:{job}:{attempt}")
}

/// Results of a collection and camera; `None` means any.
pub fn results_filter(collection: Option<&CollectionId>, camera: Option<&CameraId>) -> String {
    let (collection, camera) = (collection.map_or("*", |c| c.as_str()), camera.map_or("*", |c| c.as_str()));
    results(collection, camera)
}

/// Events of a collection and kind; `None` means any.
pub fn events_filter(collection: Option<&CollectionId>, kind: Option<&str>) -> String {
    let collection = collection.map_or("*", |collection| collection.as_str());
    format!("events.{collection}.{}", kind.map_or("*".to_owned(), |kind| kind.replace('.', "_")))
}

/// What was given up by a stage for a reason; `None` means any.
pub fn dead_filter(stage: Option<Stage>, reason: Option<Reason>) -> String {
    let (stage, reason) = (stage.map_or("*", |stage| stage.as_str()), reason.map_or("*", |reason| reason.as_str()));
    format!("dead.{stage}.{reason}")
}

/// Whether a message on this subject is a stage's work, whatever the names of its collection and camera.
pub fn is_work_of(stage: Stage, subject: &str) -> bool {
    let filter = filter(stage);
    let (ours, theirs) = (filter.split('.'), subject.split('.'));
    let fits = |(ours, theirs): (&str, &str)| !theirs.is_empty() && (ours == "*" || ours == theirs);
    ours.clone().count() == theirs.clone().count() && ours.zip(theirs).all(fits)
}

/// `<crop id>:<stage>:<face>`: the same publish has the same id however often it is tried. `to` is the receiving stage,
/// or `result`. A damaged crop id is not let into a header as it is: a line break in it would begin a header of its own.
pub fn message_id(crop: &str, to: &str, face: u32) -> String {
    let crop: String = crop.chars().take(MAX_ID).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{crop}:{to}:{face}")
}

/// The id of a crop's message towards a stage. A crop that failed and was published again has its attempt in every id: what
/// becomes of it now must not be dropped as a duplicate of what became of it before.
pub fn work_id(crop: &v1::Crop, to: Stage) -> String {
    attempt_id(crop, to.as_str())
}

fn attempt_id(crop: &v1::Crop, to: &str) -> String {
    let id = message_id(&crop.crop_id, to, crop.face_index);
    if crop.attempt == 0 { id } else { format!("{id}:{}", crop.attempt) }
}

/// What an ending is sent to, where the message that would have brought it about was given up.
const FAILED: &str = "enrich-failed";

/// The id of the ending of a crop that was given up. It is not that of an ordinary ending: a dead letter may be replayed
/// within the duplicate window, and the ending that follows must not be dropped as a duplicate of this one.
pub fn failure_id(crop: &v1::Crop) -> String {
    attempt_id(crop, FAILED)
}

/// Whether a message has the id of such an ending.
pub fn is_failure_id(id: &str) -> bool {
    id.split(':').nth(1) == Some(FAILED)
}

/// Characters of a crop id that count; a UUID has 36.
const MAX_ID: usize = 64;

/// Reads collection and camera back from `crops.<collection>.<camera>`.
pub fn parse_crops(subject: &str) -> Option<(CollectionId, CameraId)> {
    let mut tokens = subject.split('.');
    if tokens.next()? != "crops" {
        return None;
    }
    let collection = tokens.next()?.parse().ok()?;
    let camera = tokens.next()?.parse().ok()?;
    tokens.next().is_none().then_some((collection, camera))
}

/// The id of a whole crop's message towards a stage.
pub fn crop_message_id(crop: CropId, to: Stage) -> String {
    message_id(&crop.to_string(), to.as_str(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_subject_reads_back() {
        let (collection, camera) = ("c".parse().unwrap(), "door-1".parse().unwrap());
        assert_eq!(parse_crops(&crops(&collection, &camera)), Some((collection, camera)));
        for bad in ["crops.a", "crops.a.b.c", "stage.a.b", "crops..b", "crops.a b.c", ""] {
            assert_eq!(parse_crops(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_stages_work_is_told_by_its_subject() {
        assert!(is_work_of(Stage::Ingest, "crops.bad!name.cam"), "what ingest gives up was its work all the same");
        assert!(is_work_of(Stage::Embed, &stage(Stage::Embed, "office")));
        for foreign in ["stage.match.office", "stage.embed", "stage.embed.", "stage.embed.a.b", "crops.a.b", ""] {
            assert!(!is_work_of(Stage::Embed, foreign), "{foreign}");
        }
    }

    #[test]
    fn what_a_damaged_message_says_stays_deliverable() {
        assert_eq!(stage(Stage::Enrich, "office"), "stage.enrich.office");
        for bad in ["", "a.b", "*", ">", "a b", "x\r\nPUB crops.a.b 0\r\n\r\n", "b\u{FC}ro"] {
            assert_eq!(stage(Stage::Enrich, bad), "stage.enrich._", "{bad}");
        }
        let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
        assert_eq!(message_id(id, "enrich", 2), format!("{id}:enrich:2"));
        assert_eq!(message_id("7\r\nNats-Rollup: all", "enrich", 0), "7--Nats-Rollup--all:enrich:0");
        let first = v1::Crop { crop_id: id.to_owned(), face_index: 2, ..v1::Crop::default() };
        let second = v1::Crop { attempt: 71, ..first.clone() };
        for crop in [&first, &second] {
            assert!(is_failure_id(&failure_id(crop)) && !is_failure_id(&work_id(crop, Stage::Enrich)));
        }
        assert_eq!(work_id(&first, Stage::Embed), format!("{id}:embed:2"));
        assert_eq!(work_id(&second, Stage::Embed), format!("{id}:embed:2:71"));
    }

    #[test]
    fn an_event_lies_under_the_filters_of_its_collection_and_kind() {
        let office: CollectionId = "office".parse().unwrap();
        assert_eq!(event(&office, "person.merged"), "events.office.person_merged");
        assert_eq!(events_filter(Some(&office), Some("person.merged")), event(&office, "person.merged"));
        assert_eq!(events_filter(None, None), "events.*.*");
        let door = "door".parse().unwrap();
        assert_eq!(results_filter(Some(&office), Some(&door)), results("office", "door"));
        assert_eq!(results_filter(None, None), "results.*.*");
    }

    #[test]
    fn a_jobs_kind_is_read_from_its_subject() {
        for kind in JobKind::ALL {
            assert_eq!(job_kind(&job(kind)), Some(kind));
        }
        for bad in ["jobs.paint", "jobs.", "jobs", "jobs.cluster.office", "crops.cluster", ""] {
            assert_eq!(job_kind(bad), None, "{bad}");
        }
    }

    #[test]
    fn letters_of_a_kind_lie_under_one_filter() {
        assert_eq!(dead_filter(Some(Stage::Match), Some(Reason::Timeout)), dead(Stage::Match, Reason::Timeout));
        assert_eq!(dead_filter(None, None), "dead.*.*");
    }
}
