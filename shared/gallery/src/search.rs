//! Whom a probe is near to, as the index has it and people have corrected it: the one search that decisions are made from.

use std::collections::HashSet;

use facewire_domain::Hit;
use facewire_store_vec::{Probe, VecError};

use crate::{Gallery, GalleryError};

/// Negatives up to which all of their persons are read beside a search: 16 bytes each.
const FEW: u32 = 256;

/// Times that a search is repeated at most, each time for more persons, because people were taken out of what it found. After the last
/// there may be fewer than were asked for.
const REPEATS: u32 = 4;

/// What is near one probe.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Near {
    /// Faces of persons, at least of as many persons as the probe asks for, where there are so many.
    pub hits: Vec<Hit>,
    /// Persons who were near and are said not to be who the probe shows.
    pub taken_out: usize,
}

impl Gallery {
    /// The nearest faces of each probe, without persons who the probe is not by what people said
    /// ([`Gallery::respect_negatives`]). In the order of the probes; one that cannot be searched for has an error of its own.
    ///
    /// # Errors
    /// Of either store.
    pub async fn search(&self, probes: &[Probe]) -> Result<Vec<Result<Near, VecError>>, GalleryError> {
        let mut found = self.nearest_of(probes).await?;
        // By how many persons more than the probe each was searched for.
        let mut more = vec![0; probes.len()];
        for _ in 0..REPEATS {
            let asked = probes.iter().zip(&found).zip(&mut more).enumerate();
            let repeats = asked.filter_map(|(place, ((probe, near), more))| {
                *more = near.as_ref().ok().and_then(|near| lacking(near, probe.persons, *more))?;
                Some((place, Probe { persons: probe.persons.saturating_add(*more), ..probe.clone() }))
            });
            let (places, repeats): (Vec<usize>, Vec<Probe>) = repeats.unzip();
            if repeats.is_empty() {
                break;
            }
            for (place, near) in places.into_iter().zip(self.nearest_of(&repeats).await?) {
                if let Some(found) = found.get_mut(place) {
                    *found = near;
                }
            }
        }
        Ok(found)
    }

    async fn nearest_of(&self, probes: &[Probe]) -> Result<Vec<Result<Near, VecError>>, GalleryError> {
        // Asked for beside the search: nearly always nothing was said of anybody whom it finds, and that is known with it then.
        let searching = async { Ok::<_, GalleryError>(self.vectors.search(probes).await?) };
        let asking = async { Ok(self.store.persons_with_negatives(FEW).await?) };
        let (mut found, said) = tokio::try_join!(searching, asking)?;
        let is_concerned =
            |hits: &[Hit]| said.as_ref().is_none_or(|said| hits.iter().any(|hit| said.contains(&hit.person)));
        let before: Vec<usize> = found.iter().map(|hits| hits.as_ref().map_or(0, |hits| persons(hits))).collect();
        let mut judged: Vec<(&[f32], &mut Vec<Hit>)> = probes
            .iter()
            .zip(&mut found)
            .filter_map(|(probe, hits)| {
                let hits = hits.as_mut().ok().filter(|hits| is_concerned(hits))?;
                Some((probe.embedding.as_slice(), hits))
            })
            .collect();
        self.respect_negatives(&mut judged).await?;
        let near = |(hits, before): (Result<Vec<Hit>, VecError>, usize)| {
            hits.map(|hits| Near { taken_out: before.saturating_sub(persons(&hits)), hits })
        };
        Ok(found.into_iter().zip(before).map(near).collect())
    }
}

/// By how many persons more than `wanted` to search, where the last search, for `more` of them, found as many and too few of these are
/// left: whoever was taken out may have stood for the runner-up, or for the last person that was asked for. Twice as many as were taken
/// out, so that few searches do.
fn lacking(near: &Near, wanted: u32, more: u32) -> Option<u32> {
    let left = persons(&near.hits);
    let asked = wanted.saturating_add(more) as usize;
    let lacks = left < wanted as usize && left.saturating_add(near.taken_out) >= asked;
    lacks.then(|| u32::try_from(near.taken_out).unwrap_or(u32::MAX).saturating_mul(2))
}

/// How many persons' faces these are.
fn persons(hits: &[Hit]) -> usize {
    hits.iter().map(|hit| hit.person).collect::<HashSet<_>>().len()
}
