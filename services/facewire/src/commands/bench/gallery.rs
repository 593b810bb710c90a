//! A gallery to search: the people of the pictures, and as many strangers as a bench asks for.

use bytes::Bytes;
use facewire_domain::{ImageHash, SubjectId};
use facewire_gallery::{Candidate, Gallery};
use facewire_store_pg::NewFace;
use time::OffsetDateTime;

use super::load::PLACE;
use crate::commands::progress;

/// Faces enrolled at a time.
const CHUNK: usize = 512;

/// A person of the pictures, embedded.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) subject: SubjectId,
    pub(super) image: Bytes,
    pub(super) embedding: Vec<f32>,
}

/// Enrols the people of the pictures, then strangers until there are `size` faces.
pub(super) async fn fill(gallery: &Gallery, people: Vec<Known>, size: usize) -> anyhow::Result<()> {
    let known = people.len();
    let strangers = (known..size).map(|number| {
        let subject: SubjectId = format!("stranger-{number}").parse()?;
        anyhow::Ok(Known {
            subject,
            image: Bytes::copy_from_slice(&number.to_le_bytes()),
            embedding: random_unit(number as u64, gallery.dim as usize),
        })
    });
    let mut all = people.into_iter().map(Ok).chain(strangers).peekable();
    let bar = progress::bar(size as u64, "enrol");
    while all.peek().is_some() {
        let chunk: Vec<Candidate> =
            all.by_ref().take(CHUNK).map(|known| candidate(gallery, known?)).collect::<anyhow::Result<_>>()?;
        gallery.enrol(&chunk).await?;
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

fn candidate(gallery: &Gallery, known: Known) -> anyhow::Result<Candidate> {
    let face = NewFace {
        collection: PLACE.parse()?,
        subject: known.subject,
        name: None,
        image_hash: ImageHash::of(&known.image),
        asset: None,
        embedding: known.embedding,
        model: gallery.model.clone(),
        bounding_box: None,
        landmarks: None,
        quality: None,
        crop: None,
        captured_at: OffsetDateTime::UNIX_EPOCH,
    };
    Ok(Candidate { face, conflict_from: None })
}

/// The same on every machine: a linear congruential generator, any spread will do.
fn random_unit(seed: u64, dim: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let values: Vec<f32> = (0..dim).map(|_| next()).collect();
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    values.into_iter().map(|v| v / norm).collect()
}
