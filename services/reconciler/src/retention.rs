//! What is too old goes, in bounded steps (DESIGN §6, §7): crops with what became of them, faces without a person, kept images.
//! Several instances may do it at once; each step takes what no other has locked.

use std::time::Duration;

use facewire_domain::{Fault, FaultKind};
use facewire_gallery::GalleryError;
use facewire_runtime::{ActorError, Shutdown};
use facewire_store_pg::Expired;
use facewire_telemetry::events;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{Reconciler, SERVICE, images};

/// How long things are kept where a collection does not say.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Crops and their endings; `"forever"` keeps them.
    #[serde(with = "age")]
    pub results: Option<Duration>,
    /// Between two looks for what is too old.
    #[serde(with = "facewire_config::duration")]
    pub interval: Duration,
    /// Crops or faces of one step.
    pub step: u32,
    /// Between two steps: Postgres has other work.
    #[serde(with = "facewire_config::duration")]
    pub pause: Duration,
    /// Between two comparisons of the kept images with the faces.
    #[serde(with = "facewire_config::duration")]
    pub images_interval: Duration,
    /// An image without a face that is younger than this is left alone: its face is on its way. So are the images of a face that is
    /// too old, where another crop of the same image was received within this time.
    #[serde(with = "facewire_config::duration")]
    pub images_grace: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            results: Some(Duration::from_secs(30 * 24 * 3600)),
            interval: Duration::from_secs(60),
            step: 5000,
            pause: Duration::from_millis(100),
            images_interval: Duration::from_secs(6 * 3600),
            images_grace: Duration::from_secs(24 * 3600),
        }
    }
}

/// An age, or `forever`.
mod age {
    use std::time::Duration;

    use serde::de::IntoDeserializer;
    use serde::{Deserialize, Deserializer, Serializer};

    const FOREVER: &str = "forever";

    pub(super) fn serialize<S: Serializer>(age: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match age {
            Some(age) => facewire_config::duration::serialize(age, serializer),
            None => serializer.serialize_str(FOREVER),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == FOREVER {
            return Ok(None);
        }
        facewire_config::duration::deserialize(text.into_deserializer()).map(Some)
    }
}

/// The actor.
pub(crate) async fn expire(reconciler: Reconciler, shutdown: Shutdown) -> Result<(), ActorError> {
    events::Expired::begin();
    let mut compared: Option<Instant> = None;
    loop {
        let done = tokio::select! {
            // Every step is whole or not at all.
            () = shutdown.draining() => return Ok(()),
            done = once(&reconciler, &mut compared) => done,
        };
        match done {
            Ok(()) => {}
            Err(error) if error.kind() == FaultKind::Poison => return Err(error.into()),
            Err(error) => {
                events::StoreWaited { service: SERVICE, store: error.system(), failures: 0, error: &error }.emit();
            }
        }
        tokio::select! {
            () = shutdown.draining() => return Ok(()),
            () = tokio::time::sleep(reconciler.options.retention.interval) => {}
        }
    }
}

/// Each is done whatever became of the one before: a statement that takes too long must not keep images for ever. The first error.
async fn once(reconciler: &Reconciler, compared: &mut Option<Instant>) -> Result<(), GalleryError> {
    let results = expire_results(reconciler).await;
    let faces = expire_faces(reconciler).await;
    let images = compare_images(reconciler, compared).await;
    results.and(faces).and(images)
}

async fn expire_results(reconciler: &Reconciler) -> Result<(), GalleryError> {
    let options = &reconciler.options.retention;
    let store = &reconciler.gallery.store;
    loop {
        let expired = store.expire_results(options.results, OffsetDateTime::now_utc(), options.step).await?;
        if expired.is_empty() {
            return Ok(());
        }
        events::Expired { what: "crops", count: crops(&expired) }.emit();
        tokio::time::sleep(options.pause).await;
    }
}

/// How many crops a step took: an alert compares them with those that were admitted, and a frame has an ending for each of its faces. A
/// step that finds endings alone has no crop to count, and counts those.
fn crops(expired: &Expired) -> u64 {
    if expired.crops > 0 { expired.crops } else { expired.recognitions }
}

/// The short pass removes their points, images and rows.
async fn expire_faces(reconciler: &Reconciler) -> Result<(), GalleryError> {
    let options = &reconciler.options.retention;
    let store = &reconciler.gallery.store;
    for (collection, policy) in store.policies().await? {
        if policy.retain_unmatched.is_none() {
            continue;
        }
        let mut after = None;
        loop {
            let step = store.expire_unmatched(&collection, after, OffsetDateTime::now_utc(), options.step).await?;
            if step.tombstoned > 0 {
                events::Expired { what: "faces", count: step.tombstoned }.emit();
            }
            after = step.next;
            if after.is_none() {
                break;
            }
            tokio::time::sleep(options.pause).await;
        }
    }
    Ok(())
}

async fn compare_images(reconciler: &Reconciler, compared: &mut Option<Instant>) -> Result<(), GalleryError> {
    if compared.is_none_or(|at| at.elapsed() >= reconciler.options.retention.images_interval) {
        images::compare(reconciler).await?;
        *compared = Some(Instant::now());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_crop_however_many_faces_it_had() {
        assert_eq!(crops(&Expired { crops: 2, recognitions: 9, failures: 1 }), 2);
        assert_eq!(crops(&Expired { crops: 3, recognitions: 0, failures: 0 }), 3, "they never ended");
        assert_eq!(crops(&Expired { crops: 0, recognitions: 4, failures: 1 }), 4, "their crops went before");
    }

    #[test]
    fn an_age_is_a_duration_or_for_ever() {
        let read = |text: &str| serde_json::from_str::<Retention>(&format!(r#"{{"results": "{text}"}}"#));
        assert_eq!(read("7days").unwrap().results, Some(Duration::from_secs(7 * 24 * 3600)));
        assert_eq!(read("forever").unwrap().results, None);
        assert!(read("soon").is_err());
        let shown = serde_json::to_value(read("forever").unwrap()).unwrap();
        assert_eq!(shown["results"], "forever");
    }
}
