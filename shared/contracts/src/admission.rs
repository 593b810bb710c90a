//! From a producer's message to the crop that it is. The crop's id follows from the message alone, so that `ingest`, which
//! admits it, and the bus, which may have to give it up before `ingest` could, mean the same crop.

use facewire_domain::{CropId, ImageHash};
use time::OffsetDateTime;

use crate::convert::{self, CropIdentity};
use crate::headers::ProducerHeaders;
use crate::{subjects, v1};

/// A crop as its producer's message describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Admission {
    /// Typed.
    pub identity: CropIdentity,
    /// For the wire; no stage has had it yet.
    pub crop: v1::Crop,
}

/// The crop of a message; `None` where the subject is not `crops.<collection>.<camera>` with valid names. Hashes the
/// payload, which blocks for as long as that takes.
pub fn admission(
    subject: &str,
    headers: &ProducerHeaders,
    stream_time: OffsetDateTime,
    payload: &[u8],
) -> Option<Admission> {
    let (collection, camera) = subjects::parse_crops(subject)?;
    let captured_at = headers.captured_at.unwrap_or(stream_time);
    let image = ImageHash::of(payload);
    let id = CropId::derive(&collection, &camera, captured_at, &image);
    let crop = v1::Crop {
        crop_id: id.to_string(),
        collection: collection.to_string(),
        camera: camera.to_string(),
        captured_at: Some(convert::timestamp(captured_at)),
        received_at: Some(convert::timestamp(stream_time)),
        image_hash: image.as_bytes().to_vec().into(),
        intent: headers.intent.as_str().to_owned(),
        subject_id: headers.subject.as_ref().map(ToString::to_string).unwrap_or_default(),
        person_name: headers.name.clone().unwrap_or_default(),
        threshold: headers.threshold,
        fpir: headers.fpir,
        candidates: headers.candidates,
        asset_id: headers.asset.clone().unwrap_or_default(),
        frame: headers.frame,
        reply_to: headers.reply_to.clone().unwrap_or_default(),
        face_count: 1,
        ..v1::Crop::default()
    };
    let identity = CropIdentity {
        crop: id,
        collection,
        camera,
        captured_at,
        received_at: stream_time,
        image,
        intent: headers.intent,
        subject: headers.subject.clone(),
    };
    Some(Admission { identity, crop })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_what_the_wire_says() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_123_456_789).unwrap();
        let headers = ProducerHeaders { captured_at: Some(at), threshold: Some(0.5), ..ProducerHeaders::default() };
        let stream_time = at + time::Duration::SECOND;
        let read = admission("crops.office.door", &headers, stream_time, b"image").unwrap();
        assert_eq!(CropIdentity::try_from(&read.crop).unwrap(), read.identity);
        assert_eq!((read.identity.captured_at, read.identity.received_at), (at, stream_time));

        let silent = admission("crops.office.door", &ProducerHeaders::default(), at, b"image").unwrap();
        assert_eq!(silent.identity.crop, read.identity.crop, "without the header, the stream's time counts");
        assert_eq!(admission("crops.cam\u{e9}ra.door", &headers, at, b"image"), None);
    }
}
