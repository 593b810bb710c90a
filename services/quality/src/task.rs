//! A task off the wire, checked once, and what comes of its picture: pure rules, no model and no queue.

use bytes::Bytes;
use facewire_assess::{Judged, Request};
use facewire_bus::Outgoing;
use facewire_contracts::convert::{self, CropIdentity};
use facewire_contracts::v1;
use facewire_domain::{Intent, KeepImages, Outcome, Refusal, Stage, Status};
use facewire_store_object::ImageKey;
use facewire_telemetry::events;
use facewire_vision::{DecodeLimits, decode};
use time::OffsetDateTime;

use crate::keeping::{self, Face};

/// A crop to judge.
#[derive(Debug)]
pub(crate) struct Task {
    crop: v1::Crop,
    identity: CropIdentity,
    /// The encoded picture.
    pub(crate) image: Bytes,
}

impl Task {
    /// The error says what is wrong with the message.
    pub(crate) fn read(payload: Bytes) -> Result<Self, String> {
        let v1::QualityTask { crop, image } =
            convert::decode(payload, "QualityTask").map_err(|error| error.to_string())?;
        let crop = crop.ok_or("field crop is missing")?;
        let identity = CropIdentity::try_from(&crop).map_err(|error| error.to_string())?;
        Ok(Self { crop, identity, image })
    }

    /// What its picture is judged by.
    pub(crate) fn request(&self) -> Request<'_> {
        let CropIdentity { collection, camera, intent, .. } = &self.identity;
        Request { collection: collection.as_str(), camera: camera.as_str(), intent: *intent, frame: self.crop.frame }
    }

    /// The images that its collection keeps of the faces that passed. What cannot be encoded is not kept, and told.
    pub(crate) fn images(&self, judged: &[Judged], limits: &DecodeLimits) -> Vec<(ImageKey, Bytes)> {
        let keep = KeepImages::parse(&self.crop.keep_images).unwrap_or_default();
        if keep == KeepImages::None || !self.identity.intent.keeps_images() {
            return Vec::new();
        }
        let passed: Vec<(u32, &Judged)> = (0..).zip(judged).filter(|(_, judged)| judged.refusal.is_none()).collect();
        // Decoded once more for all of its faces, by the few collections that keep crops: it was judged already, so it can be.
        let crops = keep == KeepImages::Crop && !passed.is_empty();
        let picture = crops.then(|| decode(&self.image, limits).ok()).flatten();
        let image = |(face_index, judged): (u32, &Judged)| {
            let (collection, image_hash) = (&self.identity.collection, self.identity.image);
            let face = Face { collection, image_hash, face_index, bbox: judged.found.bbox, aligned: &judged.aligned };
            keeping::image(keep, &face, picture.as_ref()).unwrap_or_else(|error| {
                tracing::error!(%error, "a face's image is not kept");
                None
            })
        };
        passed.into_iter().filter_map(image).collect()
    }

    /// What comes of each face, or the ending of a picture that was rejected as a whole.
    pub(crate) fn finish(mut self, judged: Result<Vec<Judged>, Refusal>, started: OffsetDateTime) -> Vec<Outgoing> {
        self.crop.stamp(Stage::Quality, started, OffsetDateTime::now_utc());
        match judged {
            Ok(faces) => {
                self.crop.face_count = u32::try_from(faces.len()).unwrap_or(u32::MAX);
                (0..).zip(faces).map(|(index, face)| self.hand_on(index, face)).collect()
            }
            Err(Refusal { reason, detail }) => {
                let outcome = Outcome::rejected(Stage::Quality, reason, detail);
                vec![Outgoing::ending(self.crop, None, outcome.into())]
            }
        }
    }

    /// A face that passed goes to `embed`, unless it was only to be observed; one that did not pass ends.
    fn hand_on(&self, face_index: u32, judged: Judged) -> Outgoing {
        let Judged { found, aligned, quality, refusal } = judged;
        let crop = v1::Crop { face_index, ..self.crop.clone() };
        events::FaceMeasured { collection: &crop.collection, camera: &crop.camera, quality: &quality }.emit();
        let status = refusal.as_ref().and_then(|r| r.detail.signal.as_deref()).unwrap_or("ok");
        let face = v1::Face::new(found.bbox, &found.landmarks, v1::Quality::new(&quality, status));
        let outcome = match refusal {
            Some(refusal) => Outcome::rejected(Stage::Quality, refusal.reason, refusal.detail),
            None if self.identity.intent == Intent::Observe => Outcome::success(Status::Observed, Stage::Quality),
            None => {
                let rgb = aligned.into_bytes();
                let task = v1::EmbedTask { crop: Some(crop.clone()), face: Some(face), rgb };
                return Outgoing::work(Stage::Embed, &crop, &task);
            }
        };
        Outgoing::ending(crop, Some(face), outcome.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use facewire_contracts::admission::admission;
    use facewire_contracts::{Message as _, ProducerHeaders, subjects};
    use facewire_domain::{BoundingBox, Detail, ImageHash, Quality, Reason};
    use facewire_inference::FoundFace;
    use facewire_vision::align::TEMPLATE;
    use facewire_vision::{AlignedFace, RgbImage, encode_png};

    fn crop(intent: Intent) -> v1::Crop {
        let headers = ProducerHeaders { intent, frame: true, ..ProducerHeaders::default() };
        admission("crops.office.door", &headers, OffsetDateTime::UNIX_EPOCH, b"picture").unwrap().crop
    }

    fn read(crop: Option<v1::Crop>) -> Result<Task, String> {
        Task::read(v1::QualityTask { crop, image: Bytes::from_static(b"picture") }.encode_to_vec().into())
    }

    fn face(refusal: Option<Refusal>) -> Judged {
        let bbox = BoundingBox { x1: 0.0, y1: 0.0, x2: 112.0, y2: 112.0 };
        let found = FoundFace { bbox, detection_score: 0.9, landmarks: TEMPLATE, drift: 0.0 };
        let aligned = AlignedFace::from_bytes(vec![9; AlignedFace::BYTES]).unwrap();
        Judged { found, aligned, quality: Quality { blur: 38.0, ..Quality::default() }, refusal }
    }

    fn blurred() -> Refusal {
        Refusal { reason: Reason::LowQuality, detail: Detail::limit("blur", 38.0, 60.0) }
    }

    fn finish(intent: Intent, judged: Result<Vec<Judged>, Refusal>) -> Vec<Outgoing> {
        read(Some(crop(intent))).unwrap().finish(judged, OffsetDateTime::UNIX_EPOCH)
    }

    fn ending(outgoing: &Outgoing) -> v1::EnrichTask {
        assert_eq!(outgoing.subject, subjects::stage(Stage::Enrich, "office"));
        convert::decode(outgoing.payload.clone(), "EnrichTask").unwrap()
    }

    #[test]
    fn what_is_wrong_with_a_message_is_named() {
        assert!(Task::read(Bytes::from_static(b"\xFF")).unwrap_err().contains("QualityTask"));
        assert!(read(None).unwrap_err().contains("crop"));
        let unknown = v1::Crop { intent: "greet".to_owned(), ..crop(Intent::Recognize) };
        assert!(read(Some(unknown)).unwrap_err().contains("intent"));
    }

    #[test]
    fn a_picture_is_judged_by_what_its_crop_says() {
        let task = read(Some(crop(Intent::Enroll))).unwrap();
        let Request { collection, camera, intent, frame } = task.request();
        assert_eq!((collection, camera, intent, frame), ("office", "door", Intent::Enroll, true));
        assert_eq!(task.image.as_ref(), b"picture");
    }

    #[test]
    fn each_face_of_a_frame_ends_for_itself_and_they_are_numbered() {
        let sent = finish(Intent::Recognize, Ok(vec![face(None), face(Some(blurred()))]));
        assert_eq!(sent[0].subject, subjects::stage(Stage::Embed, "office"));
        let work: v1::EmbedTask = convert::decode(sent[0].payload.clone(), "EmbedTask").unwrap();
        let crop = work.crop.unwrap();
        assert_eq!((crop.face_index, crop.face_count, crop.times.len()), (0, 2, 1));
        assert_eq!((work.rgb.len(), work.face.unwrap().quality.unwrap().status.as_str()), (AlignedFace::BYTES, "ok"));
        let task = ending(&sent[1]);
        assert_eq!(task.crop.unwrap().face_index, 1);
        let (outcome, quality) = (task.ending.unwrap(), task.face.unwrap().quality.unwrap());
        assert_eq!((outcome.status.as_str(), outcome.reason.as_str()), ("rejected", "low_quality"));
        assert_eq!((quality.status.as_str(), quality.blur), ("blur", 38.0));
        assert_ne!(sent[0].id, sent[1].id, "both are published");
    }

    #[test]
    fn a_face_is_counted_by_what_its_picture_tells() {
        // Nobody else in this process begins telemetry, or names this camera.
        let telemetry = facewire_telemetry::init(&facewire_telemetry::Options::default(), "test", false).unwrap();
        let crop = v1::Crop { camera: "counted".to_owned(), ..crop(Intent::Recognize) };
        read(Some(crop)).unwrap().finish(Ok(vec![face(None)]), OffsetDateTime::UNIX_EPOCH);
        let text = facewire_telemetry::prometheus().unwrap();
        let counted = |signal: &str| {
            text.contains(&format!("facewire_quality_{signal}_count{{camera=\"counted\",collection=\"office\"}} 1\n"))
        };
        assert!(counted("blur") && counted("face_size"), "{text}");
        // The length of its embedding is not known yet, and its score is a first estimate: `embed` counts both.
        assert!(!counted("embedding_length") && !counted("score"), "{text}");
        telemetry.shutdown();
    }

    #[test]
    fn a_face_that_is_only_observed_ends_here_unless_it_is_refused() {
        let status = |judged| ending(&finish(Intent::Observe, Ok(vec![face(judged)]))[0]).ending.unwrap().status;
        assert_eq!((status(None).as_str(), status(Some(blurred())).as_str()), ("observed", "rejected"));
    }

    #[test]
    fn only_faces_that_passed_are_kept_and_only_if_their_collection_says_so() {
        let kept = |keep: &str, intent| {
            let crop = v1::Crop { keep_images: keep.to_owned(), ..crop(intent) };
            let judged = [face(Some(blurred())), face(None)];
            let images = read(Some(crop)).unwrap().images(&judged, &DecodeLimits::default());
            images.into_iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>()
        };
        for (keep, intent) in [("", Intent::Recognize), ("none", Intent::Enroll), ("original", Intent::Recognize)] {
            assert!(kept(keep, intent).is_empty(), "{keep}");
        }
        for intent in [Intent::Observe, Intent::Extract] {
            assert!(kept("aligned", intent).is_empty(), "{intent} leaves nothing");
        }
        let hash = ImageKey::aligned("office".parse().unwrap(), ImageHash::of(b"picture"), 1);
        assert_eq!(kept("aligned", Intent::Recognize), [hash.to_string()]);
    }

    #[test]
    fn every_face_of_a_picture_is_cut_out_of_it() {
        let picture = encode_png(&RgbImage::filled(200, 150, [90; 3])).unwrap();
        let crop = v1::Crop { keep_images: "crop".to_owned(), ..crop(Intent::Recognize) };
        let payload = v1::QualityTask { crop: Some(crop), image: picture.into() }.encode_to_vec();
        let judged = [face(None), face(Some(blurred())), face(None)];
        let images = Task::read(payload.into()).unwrap().images(&judged, &DecodeLimits::default());
        let key = |face_index| ImageKey::crop("office".parse().unwrap(), ImageHash::of(b"picture"), face_index);
        assert_eq!(images.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), [key(0), key(2)]);
        for (_, image) in images {
            let cut = decode(&image, &DecodeLimits::default()).unwrap();
            assert_eq!((cut.width(), cut.height()), (157, 150), "with a margin, as far as there is one");
        }
    }

    #[test]
    fn a_picture_without_a_face_ends_as_one_crop() {
        let refusal = Refusal { reason: Reason::NoFace, detail: Detail::message("none") };
        let sent = finish(Intent::Recognize, Err(refusal));
        let task = ending(&sent[0]);
        assert_eq!((sent.len(), task.face, task.crop.unwrap().face_count), (1, None, 1));
        assert_eq!(task.ending.unwrap().reason, "no_face");
    }
}
