//! One message of a producer, judged: subject, headers, signature, size by the image's header. Blocking (it hashes), so it
//! runs on threads of its own. Stores must not come in.

use facewire_bus::{Delivery, Done};
use facewire_contracts::{ProducerHeaders, convert, subjects, v1};
use facewire_domain::{CropId, Detail, ImageHash, Outcome, Reason, Stage};
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
    let Some((collection, camera)) = subjects::parse_crops(delivery.subject()) else {
        let error = "the subject is not crops.<collection>.<camera> with names of A-Z a-z 0-9 _ -";
        return Err(delivery.dead(Stage::Ingest, Reason::InvalidMessage, error));
    };
    let (headers, bad_header) = ProducerHeaders::parse(|name| delivery.header(name));
    let image = delivery.payload.clone();
    let bytes = u64::try_from(image.len()).unwrap_or(u64::MAX);
    let info = judge_image(&image, bytes, limits);
    let refusal = match (bad_header, &info) {
        (Some(error), _) => Some(reject(Reason::InvalidMessage, Detail::message(error.to_string()))),
        (None, Err((reason, detail))) => Some(reject(*reason, detail.clone())),
        (None, Ok(_)) => None,
    };
    let captured_at = headers.captured_at.unwrap_or(delivery.stream_time);
    let image_hash = ImageHash::of(&image);
    let crop = CropId::derive(&collection, &camera, captured_at, &image_hash);
    let mut wire = v1::Crop {
        crop_id: crop.to_string(),
        collection: collection.to_string(),
        camera: camera.to_string(),
        captured_at: Some(convert::timestamp(captured_at)),
        received_at: Some(convert::timestamp(delivery.stream_time)),
        image_hash: image_hash.as_bytes().to_vec().into(),
        intent: headers.intent.as_str().to_owned(),
        subject_id: headers.subject.as_ref().map(ToString::to_string).unwrap_or_default(),
        person_name: headers.name.unwrap_or_default(),
        threshold: headers.threshold,
        frame: headers.frame,
        reply_to: headers.reply_to.unwrap_or_default(),
        face_count: 1,
        ..v1::Crop::default()
    };
    wire.stamp(Stage::Ingest, started, OffsetDateTime::now_utc());
    let row = NewCrop {
        head: CropHead {
            crop,
            collection,
            camera,
            captured_at,
            received_at: delivery.stream_time,
            image_hash,
            intent: headers.intent,
            subject: headers.subject,
        },
        bytes,
        format: info.as_ref().ok().map(|info| info.format.as_str().to_owned()),
        size: info.as_ref().ok().map(|info| (info.width, info.height)),
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
