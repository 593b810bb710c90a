//! What the crops of `bench pipeline` show: good ones, what four cameras send, and faces cut without anything around them.

use anyhow::Context;
use bytes::Bytes;
use clap::ValueEnum;
use facewire_artifacts::progress::Reporter;
use facewire_assess::{Request, Rules, judge};
use facewire_composition::models::Loaded;
use facewire_domain::GateOverride;
use facewire_inference::{FaceEmbedder, FaceFind};
use facewire_vision::{Camera, DecodeLimits, crop, decode, encode_jpeg};

use super::gallery::Known;
use super::load::PLACE;
use crate::cli::MixName;
use crate::commands::demo;

/// JPEG quality of the tight crops.
const QUALITY: u8 = 90;

/// Pictures under a name.
#[derive(Debug)]
pub(super) struct Mix {
    pub(super) name: &'static str,
    pub(super) pictures: Vec<Bytes>,
}

/// The people who are enrolled, and the mixes that were asked for.
pub(super) async fn prepare(
    models: &Loaded,
    wanted: &[MixName],
    report: Reporter,
) -> anyhow::Result<(Vec<Known>, Vec<Mix>)> {
    let plan = demo::sample_plan(models, report).await?;
    let (models, wanted) = (models.clone(), wanted.to_vec());
    let prepare = move || {
        let mut finder = models.pack.finder(&models.runtime, &models.session)?;
        let mut embedder = models.pack.embedder(&models.runtime, &models.session)?;
        let known = plan.enrolments.into_iter().map(|enrolment| {
            let embedding = embed(&mut finder, embedder.as_mut(), &enrolment.image)?;
            anyhow::Ok(Known { subject: enrolment.subject, image: enrolment.image, embedding })
        });
        let known = known.collect::<anyhow::Result<Vec<Known>>>()?;
        let clean = |play: &&demo::Play| play.camera.as_str() == Camera::Clean.name();
        let clean: Vec<Bytes> = plan.plays.iter().filter(clean).map(|play| play.image.clone()).collect();
        let mix = |name: &MixName| {
            let pictures = match name {
                MixName::Clean => clean.clone(),
                MixName::Cameras => plan.plays.iter().map(|play| play.image.clone()).collect(),
                MixName::Tight => clean.iter().map(|picture| tight(&mut finder, picture)).collect::<Result<_, _>>()?,
            };
            anyhow::ensure!(!pictures.is_empty(), "there are no pictures for this mix");
            Ok(Mix { name: name.as_str(), pictures })
        };
        let mixes = wanted.iter().map(mix).collect::<anyhow::Result<Vec<Mix>>>()?;
        Ok((known, mixes))
    };
    tokio::task::spawn_blocking(prepare).await?
}

/// What the chain makes of a picture that it enrols.
fn embed(finder: &mut dyn FaceFind, embedder: &mut dyn FaceEmbedder, picture: &[u8]) -> anyhow::Result<Vec<f32>> {
    let mut rules = Rules::default();
    rules.gate = rules.gate.with_enroll(GateOverride::OFF);
    let faces =
        judge(finder, &rules, Request::crop(PLACE), picture).map_err(|_| anyhow::anyhow!("no face to enrol"))?;
    let face = faces.into_iter().next().context("no face to enrol")?;
    embedder.embed(&[face.aligned])?.pop().context("no embedding")
}

/// Only what lies in the detector's box: the hardest crops to align.
fn tight(finder: &mut dyn FaceFind, picture: &Bytes) -> anyhow::Result<Bytes> {
    let image = decode(picture, &DecodeLimits::default())?;
    let faces = finder.find(&image)?;
    let Some(face) = faces.iter().max_by(|a, b| a.bbox.area().total_cmp(&b.bbox.area())) else {
        return Ok(picture.clone());
    };
    Ok(encode_jpeg(&crop(&image, &face.bbox), QUALITY)?.into())
}

impl MixName {
    fn as_str(self) -> &'static str {
        match self {
            MixName::Clean => "clean",
            MixName::Cameras => "cameras",
            MixName::Tight => "tight",
        }
    }

    /// All mixes.
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }
}
