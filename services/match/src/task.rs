//! A task off the wire, checked once.

use facewire_bus::{Delivery, Done, Outgoing};
use facewire_contracts::convert::{self, CropIdentity, WireError};
use facewire_contracts::v1;
use facewire_domain::model::base_of;
use facewire_domain::{Detail, FaceId, Outcome, PersonId, Reason, Stage};
use facewire_gallery::Asked;
use facewire_store_pg::{FaceQuality, KeptFace, RawEmbedding};

use crate::dead;

/// A face with its embedding.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) delivery: Delivery,
    pub(crate) crop: v1::Crop,
    pub(crate) identity: CropIdentity,
    pub(crate) face: Option<v1::Face>,
    pub(crate) embedding: Vec<f32>,
    pub(crate) model: String,
    /// What the gallery's head made the embedding of; `None` without a head.
    raw: Option<Raw>,
}

/// A pack's own embedding behind which a head follows.
struct Raw {
    embedding: Vec<f32>,
    model: String,
}

/// An embedding is biometric data: it stays out of logs.
impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raw").field("model", &self.model).finish_non_exhaustive()
    }
}

/// How a task ended, and what is told to its crop's reply subject alone.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) ending: v1::Ending,
    pub(crate) reply_only: Option<v1::ReplyOnly>,
}

impl From<v1::Ending> for Ended {
    fn from(ending: v1::Ending) -> Self {
        Self { ending, reply_only: None }
    }
}

impl Task {
    /// `model` and `dim`: of the gallery. An embedding of another model has no similarity to those in it, even where it has as
    /// many numbers; its crop ends as failed, and published once more it is embedded anew. What a head made carries the pack's own
    /// embedding too, with which a gallery of the pack is searched.
    pub(crate) fn read(delivery: Delivery, model: &str, dim: usize) -> Result<Self, Box<Done>> {
        let mut task: v1::MatchTask = match convert::decode(delivery.payload.clone(), "MatchTask") {
            Ok(task) => task,
            Err(error) => return Err(dead(delivery, &error.to_string())),
        };
        let Some(crop) = task.crop else {
            return Err(dead(delivery, "field crop is missing"));
        };
        let identity = match CropIdentity::try_from(&crop) {
            Ok(identity) => identity,
            Err(error) => return Err(dead(delivery, &error.to_string())),
        };
        let raw =
            Raw { embedding: std::mem::take(&mut task.raw_embedding), model: std::mem::take(&mut task.raw_model) };
        let raw = if task.model != model && raw.model == model {
            (task.embedding, task.model) = (raw.embedding, raw.model);
            None
        } else {
            Some(raw).filter(|raw| base_of(&task.model) == Some(raw.model.as_str()))
        };
        if task.model != model {
            let detail = format!("embedded by the model {}, and the gallery is of {model}", task.model);
            let outcome = Outcome::failed(Stage::Match, Reason::Internal, Detail::message(detail));
            let ending = v1::Ending { model: task.model, ..outcome.into() };
            return Err(Box::new(delivery.done(vec![Outgoing::ending(crop, task.face, ending)])));
        }
        if task.embedding.len() != dim || !task.embedding.iter().all(|x| x.is_finite()) {
            return Err(dead(delivery, &format!("field embedding is not {dim} finite numbers")));
        }
        if raw.as_ref().is_some_and(|raw| raw.embedding.is_empty() || !raw.embedding.iter().all(|x| x.is_finite())) {
            return Err(dead(delivery, "field raw_embedding is not finite numbers"));
        }
        Ok(Self { delivery, crop, identity, face: task.face, embedding: task.embedding, model: task.model, raw })
    }

    /// What is kept beside this face, so that the gallery can go back to the pack, or on to another head.
    pub(crate) fn raw(&self, face: FaceId) -> Option<RawEmbedding> {
        let Raw { embedding, model } = self.raw.as_ref()?;
        Some(RawEmbedding { face, model: model.clone(), embedding: embedding.clone() })
    }

    /// The producer's id of the image.
    pub(crate) fn asset(&self) -> Option<String> {
        Some(self.crop.asset_id.clone()).filter(|asset| !asset.is_empty())
    }

    /// What its crop asks for itself.
    pub(crate) fn asked(&self) -> Asked {
        Asked { threshold: self.crop.threshold, fpir: self.crop.fpir }
    }

    /// How many nearest persons are to be told; none where nobody listens.
    pub(crate) fn candidates(&self) -> u32 {
        if self.crop.reply_to.is_empty() { 0 } else { self.crop.candidates }
    }

    /// The face, to be kept without a person. `matched`: who was recognised in it.
    pub(crate) fn kept_face(&self, matched: Option<PersonId>) -> Result<KeptFace, WireError> {
        let (identity, face) = (&self.identity, self.face.as_ref());
        let quality = face.and_then(|face| face.quality.as_ref());
        Ok(KeptFace {
            face: FaceId::of_crop(identity.crop, self.crop.face_index),
            collection: identity.collection.clone(),
            crop: identity.crop,
            face_index: self.crop.face_index,
            image_hash: identity.image,
            asset: self.asset(),
            embedding: self.embedding.clone(),
            model: self.model.clone(),
            bounding_box: face.and_then(|face| face.r#box).map(Into::into),
            landmarks: face.map(v1::Face::five).transpose()?,
            quality: quality.map(|q| FaceQuality { signals: q.into(), status: q.status.clone() }),
            captured_at: identity.captured_at,
            matched,
        })
    }
}
