//! Work for the chain: an image is published as a producer would, and its results are waited for on a reply subject. Nothing
//! is decided here.

use std::time::Duration;

use bytes::Bytes;
use facewire_bus::{BusError, Message, Pending};
use facewire_contracts::{headers, subjects, v1};
use facewire_domain::{CameraId, CollectionId, CropId, ImageHash, Intent};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::App;
use crate::error::{ApiError, Code};

/// The camera of images that come over HTTP without one.
pub(crate) const CAMERA: &str = "http";

/// Bytes of an image that are hashed where they are: about a tenth of a millisecond at most.
const HASHED_AT_ONCE: usize = 64 * 1024;

/// An image for the chain.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) collection: CollectionId,
    pub(crate) camera: CameraId,
    pub(crate) intent: Intent,
    pub(crate) image: Bytes,
    /// Beyond intent, time and reply subject.
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// An image on its way.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) crop: CropId,
    pub(crate) captured_at: OffsetDateTime,
    pending: Option<Pending>,
}

/// A small image is hashed sooner than another thread is woken for it.
async fn hash(image: &Bytes) -> Result<ImageHash, ApiError> {
    if image.len() <= HASHED_AT_ONCE {
        return Ok(ImageHash::of(image));
    }
    let image = image.clone();
    tokio::task::spawn_blocking(move || ImageHash::of(&image)).await.map_err(ApiError::internal)
}

/// Whether somebody waits for the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Yes,
    No,
}

impl App {
    /// Publishes the image. Where somebody waits, their place is taken first.
    pub(crate) async fn ask(&self, ask: Ask, wait: Wait) -> Result<Asked, ApiError> {
        let pending = match wait {
            Wait::Yes => Some(self.requests.begin()?),
            Wait::No => None,
        };
        let captured_at = OffsetDateTime::now_utc();
        let image = hash(&ask.image).await?;
        let crop = CropId::derive(&ask.collection, &ask.camera, captured_at, &image);
        let mut said = ask.headers;
        said.push((headers::INTENT, ask.intent.as_str().to_owned()));
        said.push((headers::CAPTURED_AT, captured_at.format(&Rfc3339).map_err(ApiError::internal)?));
        said.extend(pending.as_ref().map(|pending| (headers::REPLY_TO, pending.reply_to().to_owned())));
        let message = Message {
            subject: subjects::crops(&ask.collection, &ask.camera),
            id: Some(crop.to_string()),
            headers: said,
            payload: ask.image,
        };
        self.bus.publish(message).await?;
        Ok(Asked { crop, captured_at, pending })
    }
}

impl Asked {
    /// The results of every face, in order.
    ///
    /// # Errors
    /// [`Code::Timeout`] with the crop's id: the results will be in its rows.
    pub(crate) async fn results(mut self, within: Duration) -> Result<Vec<v1::Result>, ApiError> {
        let pending = self.pending.as_mut().ok_or_else(|| ApiError::internal("nobody asked for the results"))?;
        pending.all(within).await.map_err(|error| match error {
            BusError::NoReply { .. } | BusError::RepliesLost => {
                ApiError::new(Code::Timeout, "the chain did not answer in time: ask GET /api/v1/crops/{cropId} later")
                    .with(serde_json::json!({ "cropId": self.crop.to_string() }))
            }
            error => error.into(),
        })
    }
}
