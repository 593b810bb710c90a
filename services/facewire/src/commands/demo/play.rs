//! The producers: the enrolling desk, and a connection of its own for each camera.

use std::collections::BTreeMap;

use anyhow::Context;
use facewire_bus::{Bus, Options};
use facewire_contracts::headers;
use facewire_domain::{CameraId, CollectionId, CropId, Intent, SubjectId};
use futures_util::{StreamExt, TryStreamExt, stream};
use time::OffsetDateTime;

use super::COLLECTION;
use super::plan::{Plan, Play};
use crate::commands::producer::Target;

/// Crops of one camera that may wait for their PubAck at a time.
const IN_FLIGHT: usize = 16;

/// A crop that the stream took, and what should come of it.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) crop: CropId,
    pub(super) camera: CameraId,
    pub(super) kind: Kind,
}

/// What a crop was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Enrolment,
    /// `None`: a stranger.
    Probe(Option<SubjectId>),
}

fn collection() -> anyhow::Result<CollectionId> {
    Ok(COLLECTION.parse()?)
}

/// Publishes everybody who is to be enrolled.
pub(super) async fn enrolments(bus: &Bus, plan: &Plan) -> anyhow::Result<Vec<Sent>> {
    let camera: CameraId = "enroll".parse()?;
    let mut sent = Vec::with_capacity(plan.enrolments.len());
    for person in &plan.enrolments {
        let headers = vec![
            (headers::INTENT, Intent::Enroll.to_string()),
            (headers::SUBJECT, person.subject.to_string()),
            (headers::NAME, person.name.clone()),
        ];
        let desk = Target::new(collection()?, camera.clone(), headers)?;
        let crop = desk.crop(person.image.clone(), OffsetDateTime::now_utc())?;
        bus.publish(crop.message).await?;
        sent.push(Sent { crop: crop.id, camera: camera.clone(), kind: Kind::Enrolment });
    }
    Ok(sent)
}

/// Plays every camera at once; each is a producer that knows nothing of the others.
pub(super) async fn cameras(options: &Options, plan: &Plan) -> anyhow::Result<Vec<Sent>> {
    let mut by_camera: BTreeMap<&CameraId, Vec<&Play>> = BTreeMap::new();
    for play in &plan.plays {
        by_camera.entry(&play.camera).or_default().push(play);
    }
    let cameras: Vec<_> = by_camera.into_iter().map(|(camera, plays)| one_camera(options, camera, plays)).collect();
    let sent = futures_util::future::try_join_all(cameras).await?;
    Ok(sent.into_iter().flatten().collect())
}

async fn one_camera(options: &Options, camera: &CameraId, plays: Vec<&Play>) -> anyhow::Result<Vec<Sent>> {
    let bus = Bus::connect(options, &format!("camera {camera}")).await?;
    let target = Target::new(collection()?, camera.clone(), Vec::new())?;
    let publishing = plays.into_iter().map(|play| {
        let (bus, target) = (bus.clone(), target.clone());
        async move {
            let crop = target.crop(play.image.clone(), OffsetDateTime::now_utc())?;
            bus.publish(crop.message).await.with_context(|| format!("camera {camera}"))?;
            anyhow::Ok(Sent { crop: crop.id, camera: camera.clone(), kind: Kind::Probe(play.truth.clone()) })
        }
    });
    let publishing: Vec<_> = publishing.collect();
    stream::iter(publishing).buffer_unordered(IN_FLIGHT).try_collect().await
}
