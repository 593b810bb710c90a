//! Subjects, stream names and message ids: spelled here and nowhere else.

use facewire_domain::{CameraId, CollectionId, CropId, Reason, Stage};

/// Results for consumers.
pub const RESULTS: &str = "RESULTS";
/// Messages that were given up.
pub const DEAD: &str = "DEAD";

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

/// Where a stage's work for a collection goes. `Ingest` has no such subject: crops come from producers.
pub fn stage(stage: Stage, collection: &str) -> String {
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

/// `<crop id>:<stage>:<face>`: the same publish has the same id however often it is tried. `to` is the receiving stage,
/// or `result`.
pub fn message_id(crop: &str, to: &str, face: u32) -> String {
    format!("{crop}:{to}:{face}")
}

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
}
