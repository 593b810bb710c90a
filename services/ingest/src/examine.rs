//! One message of a producer, judged: subject, headers, signature, size by the image's header. Blocking (it hashes), so
//! it runs on threads of its own.

use facewire_bus::{Delivery, Done};
use facewire_contracts::admission::{Admission, admission};
use facewire_contracts::{ProducerHeaders, v1};
use facewire_domain::{Detail, Outcome, Reason, Stage};
use facewire_store_pg::{CropHead, NewCrop};
use facewire_vision::{DecodeError, DecodeLimits, ImageInfo, probe};
use time::OffsetDateTime;

/// What may pass.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Encoded bytes.
    pub max_bytes: u64,
    /// By the image's header.
    pub decode: DecodeLimits,
}

/// A crop with its id, its row, and the refusal if there is one.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) delivery: Delivery,
    pub(crate) row: NewCrop,
    pub(crate) task: v1::QualityTask,
    pub(crate) refusal: Option<Outcome>,
}

/// Judges a message. One whose subject is not `crops.<collection>.<camera>` with proper names has no room to end in: it
/// goes to DEAD.
pub(crate) fn examine(delivery: Delivery, limits: &Limits) -> Result<Box<Examined>, Done> {
    let started = OffsetDateTime::now_utc();
    let (headers, bad_header) = ProducerHeaders::parse(|name| delivery.header(name));
    let read = admission(delivery.subject(), &headers, delivery.stream_time, &delivery.payload);
    let Some(Admission { identity, crop: mut wire }) = read else {
        let error = "the subject is not crops.<collection>.<camera> with names of A-Z a-z 0-9 _ -";
        return Err(delivery.dead(Stage::Ingest, Reason::InvalidMessage, error));
    };
    let image = delivery.payload.clone();
    let bytes = u64::try_from(image.len()).unwrap_or(u64::MAX);
    let info = judge_image(&image, bytes, limits);
    let refusal = match (bad_header, &info) {
        (Some(error), _) => Some(reject(Reason::InvalidMessage, Detail::message(error.to_string()))),
        (None, Err((reason, detail))) => Some(reject(*reason, detail.clone())),
        (None, Ok(_)) => None,
    };
    wire.stamp(Stage::Ingest, started, OffsetDateTime::now_utc());
    let row = NewCrop {
        asset: Some(wire.asset_id.clone()).filter(|asset| !asset.is_empty()),
        head: CropHead {
            crop: identity.crop,
            collection: identity.collection,
            camera: identity.camera,
            captured_at: identity.captured_at,
            received_at: identity.received_at,
            image_hash: identity.image,
            intent: identity.intent,
            subject: identity.subject,
            frame: headers.frame,
        },
        bytes,
        format: info.as_ref().ok().map(|info| info.format.as_str().to_owned()),
        size: info.as_ref().ok().map(ImageInfo::upright),
    };
    let task = v1::QualityTask { crop: Some(wire), image };
    Ok(Box::new(Examined { delivery, row, task, refusal }))
}

fn reject(reason: Reason, detail: Detail) -> Outcome {
    Outcome::rejected(Stage::Ingest, reason, detail)
}

fn judge_image(image: &[u8], bytes: u64, limits: &Limits) -> Result<ImageInfo, (Reason, Detail)> {
    if bytes == 0 {
        return Err((Reason::InvalidImage, Detail::message("the message has no payload")));
    }
    let refuse = |error: DecodeError| (error.reason(), error.detail());
    if bytes > limits.max_bytes {
        return Err(refuse(DecodeError::TooLarge { what: "bytes", value: bytes, limit: limits.max_bytes }));
    }
    let info = probe(image).map_err(refuse)?;
    limits.decode.check(&info).map_err(refuse)?;
    Ok(info)
}
