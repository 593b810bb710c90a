//! An outside producer with a ledger of its own: what it published is what must come out. It publishes through every fault
//! until each crop has its PubAck, and some crops twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use facewire_artifacts::Samples;
use facewire_bus::{Bus, BusError, Message};
use facewire_contracts::{headers, subjects};
use facewire_domain::{CameraId, CollectionId, CropId, FaceId, ImageHash, SubjectId};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::dice::Dice;

/// The gallery of a plan.
const COLLECTION: &str = "faults";
/// One crop in so many is an enrolment.
const ENROLMENTS: u64 = 20;
/// One crop in so many is published a second time, under another message id.
const TWICE: u64 = 25;
/// One crop in so many is no picture.
const RUBBISH: u64 = 50;
/// Publishes at a time.
pub(crate) const IN_FLIGHT: usize = 16;

/// What a producer knows of a crop.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) crop: CropId,
    messages: Vec<Message>,
    /// The face that an enrolment must leave.
    pub(crate) face: Option<FaceId>,
}

/// What was published, by crop.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) crops: BTreeSet<CropId>,
    pub(crate) faces: BTreeMap<FaceId, CropId>,
    pub(crate) twice: u64,
}

impl Book {
    fn enter(&mut self, published: &Published) {
        self.crops.insert(published.crop);
        self.twice += published.messages.len() as u64 - 1;
        if let Some(face) = published.face {
            self.faces.insert(face, published.crop);
        }
    }
}

/// The pictures that crops are made of: JPEGs, which can carry a comment.
pub(crate) fn pictures(samples: &Samples) -> anyhow::Result<Vec<Bytes>> {
    let people = samples.people().into_iter().flat_map(|person| [vec![person.enroll], person.probes].concat());
    let files = people.chain([samples.group_photo()]);
    let mut read = Vec::new();
    for file in files {
        read.push(Bytes::from(std::fs::read(&file).context("a sample face cannot be read")?));
    }
    read.retain(|image| image.starts_with(&[0xFF, 0xD8]));
    Ok(read)
}

/// The crops of a run, and the book of what they must become.
pub(crate) fn crops(count: u64, pictures: &[Bytes], dice: &mut Dice) -> anyhow::Result<(Book, Vec<Published>)> {
    let start = OffsetDateTime::now_utc();
    let crops = (0..count).map(|number| crop(number, start, pictures, dice)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut book = Book::default();
    crops.iter().for_each(|crop| book.enter(crop));
    Ok((book, crops))
}

/// Crop number `number` of a run.
fn crop(number: u64, start: OffsetDateTime, pictures: &[Bytes], dice: &mut Dice) -> anyhow::Result<Published> {
    let collection: CollectionId = COLLECTION.parse()?;
    let camera: CameraId = format!("camera-{}", number % 8).parse()?;
    let taken = start + Duration::from_millis(number);
    let enrol = dice.between(0, ENROLMENTS) == 0;
    let mut image = match dice.between(0, RUBBISH) {
        0 if !enrol => Bytes::from(format!("no picture, number {number}")),
        _ => pictures.get(usize::try_from(dice.next() % pictures.len() as u64)?).cloned().unwrap_or_default(),
    };
    let mut fields = vec![(headers::CAPTURED_AT, taken.format(&Rfc3339)?)];
    let mut face = None;
    if enrol {
        // An image of its own, since an image is enrolled once: a JPEG comment tells them apart.
        image = commented(&image, number);
        let subject: SubjectId = format!("subject-{number}").parse()?;
        face = Some(FaceId::derive(&collection, &subject, &ImageHash::of(&image)));
        fields.extend([(headers::INTENT, "enroll".to_owned()), (headers::SUBJECT, subject.to_string())]);
    }
    let crop = CropId::derive(&collection, &camera, taken, &ImageHash::of(&image));
    let copies = if dice.between(0, TWICE) == 0 { 2 } else { 1 };
    let message = |copy: u64| Message {
        subject: subjects::crops(&collection, &camera),
        id: Some(format!("{crop}:{copy}")),
        headers: fields.clone(),
        payload: image.clone(),
    };
    Ok(Published { crop, messages: (0..copies).map(message).collect(), face })
}

/// A JPEG with a comment right behind its start.
pub(crate) fn commented(image: &[u8], number: u64) -> Bytes {
    let (start, rest) = image.split_at(image.len().min(2));
    Bytes::from([start, &[0xFF, 0xFE, 0, 10], &number.to_be_bytes(), rest].concat())
}

/// Publishes until the stream has it, however long the server is away.
pub(crate) async fn publish(bus: &Bus, published: &Published) -> Result<(), BusError> {
    for message in &published.messages {
        loop {
            match bus.publish(message.clone()).await {
                Ok(_) => break,
                Err(error @ BusError::TooLarge { .. }) => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
    Ok(())
}
