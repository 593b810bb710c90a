//! Which faces stand for a person, chosen for quality and spread, and the mean of the person's faces: the kind
//! `prototypes`, and what the upkeep does of one person whose faces changed.

use std::sync::Arc;

use facewire_clustering::{ClusterError, Matrix, exemplars};
use facewire_domain::{FaceId, PersonId, PrototypesParams};
use facewire_store_pg::{FaceVector, PersonFilter, PersonStart};
use serde::Serialize;
use serde_json::Value as JsonValue;
use time::OffsetDateTime;

use super::rows::normalised;
use super::{Context, Task, told};
use crate::compute::on_thread;
use crate::failure::JobError;
use crate::progress::Progress;

/// Faces of a person that are looked at, confirmed ones before others and the newest of either: 4 MB of embeddings.
const FACES: u32 = 2048;

/// Persons of one page.
const PAGE: u32 = 256;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Chosen {
    /// Persons who were looked at.
    persons: u64,
    /// Faces that stand for them now.
    exemplars: u64,
    /// Persons with a mean.
    centroids: u64,
}

/// What stands for a person.
#[derive(Default)]
pub(crate) struct Standing {
    exemplars: Vec<FaceId>,
    centroid: Option<Vec<f32>>,
}

pub(super) async fn run(task: Task<'_>, params: &PrototypesParams) -> Result<JsonValue, JobError> {
    let (context, mut chosen) = (task.context, Chosen::default());
    if let Some(person) = params.person {
        task.progress.begin("choosing", 1);
        let (store, collection) = (context.store(), task.collection());
        let known = context.ask(|| store.person(person)).await?.is_some_and(|known| known.collection == *collection);
        if !known {
            return Err(JobError::Refused("the collection has no such person".to_owned()));
        }
        chosen.add(&choose(context, task.progress, person, params.exemplars, None).await?);
        task.progress.add(1);
        return told(&chosen);
    }
    let (filter, mut start): (_, Option<PersonStart>) = (PersonFilter::default(), None);
    loop {
        let store = context.store();
        let page = context.ask(|| store.persons_page(task.collection(), &filter, start.as_ref(), PAGE)).await?;
        let Some(last) = page.persons.last() else { return told(&chosen) };
        if start.is_none() {
            task.progress.begin("choosing", page.total);
        }
        start = Some(PersonStart::After(last.person.name.clone()));
        for person in &page.persons {
            let person = person.person.person_id;
            chosen.add(&choose(context, task.progress, person, params.exemplars, None).await?);
            task.progress.add(1);
        }
    }
}

impl Chosen {
    fn add(&mut self, standing: &Standing) {
        self.persons += 1;
        self.exemplars += standing.exemplars.len() as u64;
        self.centroids += u64::from(standing.centroid.is_some());
    }
}

/// Chooses a person's prototypes anew, and writes the points of those that became exemplars or are
/// none any more. `read_at`: the person is no longer out of date, unless their faces changed after it.
pub(crate) async fn choose(
    context: &Context,
    progress: &Arc<Progress>,
    person: PersonId,
    count: u32,
    read_at: Option<OffsetDateTime>,
) -> Result<Standing, JobError> {
    let (store, model, dim) = (context.store(), context.gallery.model.as_str(), context.dim());
    let faces = context.ask(|| store.person_vectors(person, model, FACES)).await?;
    let standing = if faces.is_empty() {
        Standing::default()
    } else {
        on_thread(progress, move |_| standing(faces, dim, count as usize)).await??
    };
    let (exemplars, centroid) = (&standing.exemplars, standing.centroid.as_deref());
    let changed = context.ask(|| store.set_prototypes(person, model, exemplars, centroid, read_at)).await?;
    context.ask(|| context.gallery.index_all(&changed)).await?;
    Ok(standing)
}

/// Exemplars are confirmed faces where there are any: the choice prefers what is far from the others, as a face is that a job gave to
/// the wrong person.
fn standing(mut faces: Vec<FaceVector>, dim: usize, count: usize) -> Result<Standing, ClusterError> {
    // Stable: else as they were read.
    faces.sort_by_key(|face| !face.confirmed);
    let (mut ids, mut quality, mut values, mut confirmed) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for FaceVector { face, embedding, quality: score, confirmed: is_confirmed, .. } in faces {
        let Some(embedding) = normalised(embedding, dim) else { continue };
        ids.push(face);
        quality.push(score.unwrap_or_default());
        values.extend(embedding);
        confirmed += usize::from(is_confirmed);
    }
    let eligible: &[f32] = if confirmed > 0 { values.get(..confirmed * dim).unwrap_or(&values) } else { &values };
    let chosen = exemplars::choose(Matrix::new(eligible, dim)?, &quality, count);
    let exemplars = chosen.into_iter().filter_map(|row| ids.get(row).copied()).collect();
    Ok(Standing { exemplars, centroid: exemplars::centroid(Matrix::new(&values, dim)?, &quality) })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn face(number: u128, degrees: f32, quality: Option<f32>) -> FaceVector {
        FaceVector {
            face: FaceId::from(Uuid::from_u128(number)),
            embedding: vec![degrees.to_radians().cos(), degrees.to_radians().sin()],
            quality,
            cluster: None,
            confirmed: false,
            captured_at: OffsetDateTime::UNIX_EPOCH,
            created_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_best_stand_first_and_faces_that_cannot_be_compared_not_at_all() {
        let mut faces = vec![face(1, 0.0, Some(0.5)), face(2, 90.0, None), face(3, 40.0, Some(0.9))];
        faces.push(FaceVector { embedding: vec![1.0], ..face(4, 0.0, Some(1.0)) });
        let found = standing(faces, 2, 2).unwrap();
        let ids: Vec<u128> = found.exemplars.iter().map(|face| face.as_uuid().as_u128()).collect();
        assert_eq!(ids, [3, 1]);
        assert_eq!(found.centroid.map(|mean| mean.len()), Some(2));
        assert!(standing(Vec::new(), 2, 2).unwrap().centroid.is_none());
    }

    #[test]
    fn what_a_job_gave_stands_for_nobody_who_has_confirmed_faces() {
        let confirmed = |number, degrees, quality| FaceVector { confirmed: true, ..face(number, degrees, quality) };
        let chosen = |faces: Vec<FaceVector>| {
            let found = standing(faces, 2, 3).unwrap();
            found.exemplars.iter().map(|face| face.as_uuid().as_u128()).collect::<Vec<u128>>()
        };
        // The better picture, and the farther one: of somebody else.
        let wrong = face(1, 90.0, Some(0.9));
        assert_eq!(chosen(vec![wrong.clone(), confirmed(2, 0.0, Some(0.4)), confirmed(3, 40.0, None)]), [2, 3]);
        assert_eq!(chosen(vec![wrong.clone(), face(2, 0.0, Some(0.4))]), [1, 2], "nobody said anything");
        let other_length = FaceVector { embedding: vec![1.0], ..confirmed(3, 0.0, Some(1.0)) };
        assert_eq!(chosen(vec![other_length, wrong]), [1], "none that can be compared");
    }
}
