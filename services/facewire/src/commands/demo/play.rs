//! The producers: the enrolling desk, and a connection of its own for each camera.

use std::collections::BTreeMap;

use anyhow::Context;
use facewire_bus::{Bus, Options};
use facewire_contracts::headers;
use facewire_domain::{CameraId, CollectionId, CropId, Intent, SubjectId};
use futures_util::{StreamExt, TryStreamExt, stream};
use time::OffsetDateTime;

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
    /// Which of the plan's plays, for a probe.
    pub(super) play: Option<usize>,
    /// Whether its collection has a gate.
    pub(super) gate: Gate,
}

/// The demo's two collections: the same people, with the gate and without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    On,
    Off,
}

impl Gate {
    /// The collection's name.
    pub(super) fn collection(self) -> &'static str {
        match self {
            Gate::On => "demo",
            Gate::Off => "demo-gate-off",
        }
    }

    fn id(self) -> anyhow::Result<CollectionId> {
        Ok(self.collection().parse()?)
    }
}

/// What a crop was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Enrolment(SubjectId),
    /// `None`: a stranger.
    Probe(Option<SubjectId>),
}

/// Publishes everybody who is to be enrolled.
pub(super) async fn enrolments(bus: &Bus, plan: &Plan, gate: Gate) -> anyhow::Result<Vec<Sent>> {
    let camera: CameraId = "enroll".parse()?;
    let mut sent = Vec::with_capacity(plan.enrolments.len());
    for person in &plan.enrolments {
        let headers = vec![
            (headers::INTENT, Intent::Enroll.to_string()),
            (headers::SUBJECT, person.subject.to_string()),
            (headers::NAME, person.name.clone()),
        ];
        let desk = Target::new(gate.id()?, camera.clone(), headers)?;
        let crop = desk.crop(person.image.clone(), OffsetDateTime::now_utc())?;
        bus.publish(crop.message).await?;
        let kind = Kind::Enrolment(person.subject.clone());
        sent.push(Sent { crop: crop.id, camera: camera.clone(), kind, play: None, gate });
    }
    Ok(sent)
}

/// Plays every camera at once, of the plays with these numbers; each is a producer that knows nothing of the others.
pub(super) async fn cameras(options: &Options, plan: &Plan, plays: &[usize], gate: Gate) -> anyhow::Result<Vec<Sent>> {
    let mut by_camera: BTreeMap<&CameraId, Vec<(usize, &Play)>> = BTreeMap::new();
    for (number, play) in plays.iter().filter_map(|number| Some((*number, plan.plays.get(*number)?))) {
        by_camera.entry(&play.camera).or_default().push((number, play));
    }
    let cameras: Vec<_> =
        by_camera.into_iter().map(|(camera, plays)| one_camera(options, camera, plays, gate)).collect();
    let sent = futures_util::future::try_join_all(cameras).await?;
    Ok(sent.into_iter().flatten().collect())
}

async fn one_camera(
    options: &Options,
    camera: &CameraId,
    plays: Vec<(usize, &Play)>,
    gate: Gate,
) -> anyhow::Result<Vec<Sent>> {
    let bus = Bus::connect(options, &format!("camera {camera}")).await?;
    let target = Target::new(gate.id()?, camera.clone(), Vec::new())?;
    let publishing = plays.into_iter().map(|(number, play)| {
        let (bus, target) = (bus.clone(), target.clone());
        async move {
            let crop = target.crop(play.image.clone(), OffsetDateTime::now_utc())?;
            bus.publish(crop.message).await.with_context(|| format!("camera {camera}"))?;
            let kind = Kind::Probe(play.truth.clone());
            anyhow::Ok(Sent { crop: crop.id, camera: camera.clone(), kind, play: Some(number), gate })
        }
    });
    let publishing: Vec<_> = publishing.collect();
    stream::iter(publishing).buffer_unordered(IN_FLIGHT).try_collect().await
}
