//! What a training is given: its settings, the confirmed faces of the people who have enough of them, whether those are still there, and
//! how much memory all of it needs at most. How it is driven is in `train`.

use bytesize::ByteSize;
use facewire_domain::{FaceId, PersonId, TrainLoss, TrainParams, model};
use facewire_evaluation::MIN_HELD_OUT;
use facewire_store_pg::{TrainingFace, TrainingFilter, TrainingSupply};
use facewire_training::{Faces, Fractions, Loss, Settings, Shape, Shortage, TrainError};
use time::OffsetDateTime;

use super::rows::normalised;
use super::{Context, Task};
use crate::failure::JobError;

/// Numbers of a projected embedding, at most; of a narrower embedding half of it.
const OUTPUT: usize = 128;
/// Epochs with semi-hard triplets; after them batch-hard.
const HARD_AFTER: u32 = 5;
/// Of the contrastive loss.
const TEMPERATURE: f64 = 0.1;
/// The rest of the people, a quarter, is held out: the verdict needs more of them than a smaller share would be.
const FRACTIONS: Fractions = Fractions { train: 0.6, validation: 0.15 };
/// People that are needed, so that a quarter of them can be judged by.
const MIN_PEOPLE: usize = 4 * MIN_HELD_OUT;

/// Faces of one question to Postgres: 2 MB of embeddings.
const PAGE: u32 = 1024;
/// Persons of one question.
const PERSONS: usize = 256;

/// Times that a face's numbers are held for the verdict at most, beside those that are trained on: in a gallery or among the probes of
/// it while these grow; or gathered, and what a head made of them.
const JUDGED_COPIES: u64 = 3;
/// Bytes of a face beside its numbers while it is judged: its row, and in each of three experiments what was found and how it counts.
const JUDGED_FACE: u64 = 512;
/// Bytes of a face beside what the trainer holds of it: its id.
const LISTED_FACE: u64 = 16;

/// Faces to train on, and how.
pub(super) struct Given {
    labelled: Labelled,
    pub(super) settings: Settings,
}

impl Given {
    /// Takes the faces out, checked, and which they are. It reads every number: a computation.
    pub(super) fn faces(self) -> Result<(Faces, Vec<FaceId>), TrainError> {
        let Labelled { dim, values, people, faces, .. } = self.labelled;
        Ok((Faces::new(dim, values, people)?, faces))
    }
}

/// What the job is told, for embeddings of this width.
pub(super) fn settings(params: &TrainParams, dim: usize) -> Settings {
    let output = OUTPUT.min(dim / 2).max(1);
    Settings {
        shape: Shape { input: dim, hidden: 2 * output, output },
        loss: match params.loss {
            TrainLoss::Triplet => Loss::Triplet { margin: params.margin, hard_after: HARD_AFTER },
            TrainLoss::Supcon => Loss::Contrastive { temperature: TEMPERATURE },
        },
        epochs: params.epochs,
        patience: params.patience,
        batch_size: params.batch_size as usize,
        learning_rate: params.learning_rate,
        min_faces: params.min_faces as usize,
        min_people: MIN_PEOPLE,
        fractions: FRACTIONS,
        seed: params.seed,
        ..Settings::default()
    }
}

/// Which faces: those that were stored before the job was first taken up, so that whoever takes it over reads the same ones.
fn filter(task: Task<'_>, params: &TrainParams) -> TrainingFilter {
    TrainingFilter {
        collection: task.collection().clone(),
        model: base_model(task.context).to_owned(),
        min_quality: params.quality_threshold,
        until: until(task),
        min_faces: params.min_faces,
    }
}

fn until(task: Task<'_>) -> OffsetDateTime {
    task.record.started_at.unwrap_or_else(OffsetDateTime::now_utc)
}

/// How many of the faces that were read are erased by now. Those that are somebody else's are not.
///
/// # Errors
/// Of Postgres, while draining.
pub(super) async fn erased(task: Task<'_>, faces: &[FaceId]) -> Result<u64, JobError> {
    let (context, until) = (task.context, until(task));
    context.ask(|| context.store().erased_faces(faces, until)).await
}

/// The model whose embeddings are trained on: a head takes what the pack makes, also while another head serves.
pub(super) fn base_model(context: &Context) -> &str {
    let serving = context.gallery.model.as_str();
    model::base_of(serving).unwrap_or(serving)
}

/// Reads the faces.
///
/// # Errors
/// Too few people, with the numbers; more faces than the memory takes; of Postgres, while draining.
pub(super) async fn read(task: Task<'_>, params: &TrainParams) -> Result<Given, JobError> {
    let (context, filter) = (task.context, filter(task, params));
    task.progress.begin("counting", 0);
    let supply = context.ask(|| context.store().training_supply(&filter)).await?;
    let settings = settings(params, supply.dim as usize);
    enough(&supply, &settings)?;
    admit(&supply, &settings, context.options.max_bytes)?;
    task.progress.begin("reading", supply.faces);
    let people = context.ask(|| context.store().training_people(&filter)).await?;
    let mut labelled = Labelled::new(&supply);
    for people in people.chunks(PERSONS) {
        let mut after = None;
        loop {
            let page = context.ask(|| context.store().training_faces(&filter, people, after, PAGE)).await?;
            let Some(last) = page.last() else { break };
            after = Some((last.person, last.face));
            task.progress.add(page.len() as u64);
            page.into_iter().for_each(|face| labelled.push(face));
        }
    }
    Ok(Given { labelled, settings })
}

/// Refuses before anything is read what the trainer would refuse.
fn enough(supply: &TrainingSupply, settings: &Settings) -> Result<(), TrainError> {
    let shortage = Shortage {
        min_faces: settings.min_faces,
        people: supply.people as usize,
        min_people: settings.min_people,
        below: supply.below as usize,
        pairs: supply.pairs,
        min_pairs: settings.min_pairs,
    };
    if shortage.people < shortage.min_people || shortage.pairs < shortage.min_pairs {
        return Err(TrainError::TooFew(shortage));
    }
    settings.check()
}

/// Refuses what would need more memory than there may be, before anything is read.
fn admit(supply: &TrainingSupply, settings: &Settings, limit: ByteSize) -> Result<(), JobError> {
    let needed = memory_needed(supply, settings);
    if needed <= limit.as_u64() {
        return Ok(());
    }
    Err(JobError::Refused(format!(
        "{} faces in batches of {} need {} of memory, more than jobs.max_bytes ({limit}): raise it, lower batchSize, or take \
         fewer faces with a higher qualityThreshold or minFaces",
        supply.faces,
        settings.batch_size,
        ByteSize::b(needed)
    )))
}

/// Bytes at most. Nothing but their number says how many of the faces are held out: perhaps nearly all. The verdict computes principal
/// components too, so what that takes is beside it.
fn memory_needed(supply: &TrainingSupply, settings: &Settings) -> u64 {
    let trainer = settings.memory_needed(supply.faces, supply.people);
    let a_face = u64::from(supply.dim).saturating_mul(4 * JUDGED_COPIES).saturating_add(JUDGED_FACE);
    let judging = supply.faces.saturating_mul(a_face).saturating_add(trainer.components);
    let held = trainer.held.saturating_add(supply.faces.saturating_mul(LISTED_FACE));
    held.saturating_add(trainer.working.max(judging))
}

/// Faces as the trainer takes them, person after person. No `Debug`: embeddings are biometric.
struct Labelled {
    dim: usize,
    values: Vec<f32>,
    people: Vec<u32>,
    /// Which faces, in the same order.
    faces: Vec<FaceId>,
    /// Whose the last face was, and that person's number.
    last: Option<(PersonId, u32)>,
}

impl Labelled {
    fn new(supply: &TrainingSupply) -> Self {
        let (faces, dim) = (usize::try_from(supply.faces).unwrap_or_default(), supply.dim as usize);
        // Known before: growing would hold twice as much for a moment.
        let (values, people) = (Vec::with_capacity(faces.saturating_mul(dim)), Vec::with_capacity(faces));
        Self { dim, values, people, faces: Vec::with_capacity(faces), last: None }
    }

    /// Takes a face, unless its embedding cannot be compared with others.
    fn push(&mut self, face: TrainingFace) {
        let Some(embedding) = normalised(face.embedding, self.dim) else { return };
        let number = match self.last {
            Some((person, number)) if person == face.person => number,
            Some((_, number)) => number + 1,
            None => 0,
        };
        self.last = Some((face.person, number));
        self.values.extend(embedding);
        self.people.push(number);
        self.faces.push(face.face);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_the_job_is_told_is_what_is_trained_with() {
        let params = TrainParams { epochs: 3, batch_size: 64, min_faces: 4, seed: 9, ..TrainParams::default() };
        let settings = settings(&params, 512);
        assert_eq!(settings.shape, Shape::default());
        assert_eq!((settings.epochs, settings.batch_size, settings.min_faces, settings.seed), (3, 64, 4, 9));
        assert_eq!(settings.loss, Loss::Triplet { margin: 0.2, hard_after: HARD_AFTER });
        let supcon = TrainParams { loss: TrainLoss::Supcon, ..params };
        assert_eq!(super::settings(&supcon, 512).loss, Loss::Contrastive { temperature: TEMPERATURE });
        // Whatever the domain takes the trainer takes.
        for dim in [2, 24, 512, 1024] {
            for batch_size in [8, 4096] {
                assert_eq!(super::settings(&TrainParams { batch_size, ..TrainParams::default() }, dim).check(), Ok(()));
            }
        }
    }

    #[test]
    fn as_many_are_held_out_as_a_verdict_needs() {
        let settings = settings(&TrainParams::default(), 2);
        let people: Vec<u32> = (0..MIN_PEOPLE as u32).flat_map(|person| [person; 5]).collect();
        let values: Vec<f32> = people.iter().flat_map(|_| [1.0, 0.0]).collect();
        let split = facewire_training::Split::of(&Faces::new(2, values, people).unwrap(), &settings).unwrap();
        assert!(split.test.len() >= MIN_HELD_OUT, "{split:?}");
    }

    #[test]
    fn a_refusal_has_the_numbers() {
        let supply = TrainingSupply { people: 30, below: 7, faces: 180, pairs: 450, dim: 512 };
        let refused = enough(&supply, &settings(&TrainParams::default(), 512)).unwrap_err().to_string();
        for part in ["30 people", "5 faces", "80 are needed", "450 pairs", "7 more", "Only confirmed faces count"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
        let supply = TrainingSupply { people: 100, faces: 1_000_000, pairs: 9_000_000, ..supply };
        assert_eq!(enough(&supply, &settings(&TrainParams::default(), 512)), Ok(()));
        let settings = settings(&TrainParams::default(), 512);
        let refused = admit(&supply, &settings, ByteSize::gib(1)).unwrap_err().to_string();
        assert!(refused.contains("1000000 faces") && refused.contains("jobs.max_bytes"), "{refused}");
        assert!(admit(&TrainingSupply { faces: 100_000, ..supply }, &settings, ByteSize::gib(1)).is_ok());
    }

    /// What so many faces of so many people need, in batches of this size.
    fn needed(faces: u64, people: u64, batch_size: u32) -> u64 {
        let settings = settings(&TrainParams { batch_size, ..TrainParams::default() }, 512);
        memory_needed(&TrainingSupply { people, below: 0, faces, pairs: 9_000_000, dim: 512 }, &settings)
    }

    #[test]
    fn the_memory_that_is_needed_grows_with_all_that_is_given() {
        for each in [1000, 50_000, 100_000, 2_000_000] {
            for whose in [100, 200, 5000, 300_000] {
                for batch in [8, 32, 512, 4096] {
                    let least = needed(each, whose, batch);
                    let more = [(each + 1, whose, batch), (each, whose + 1, batch)];
                    assert!(more.into_iter().all(|(each, whose, batch)| needed(each, whose, batch) > least));
                    assert!(needed(each, whose, 2 * batch) >= least, "{each} {whose} {batch}");
                }
            }
        }
    }

    #[test]
    fn pairs_of_a_batch_and_the_verdict_are_counted() {
        // Few faces, so that the batch is what matters: 4,096² pairs with two numbers of eight bytes and two of four.
        assert!(needed(1000, 100, 4096) >= 16_777_216 * 24);
        assert!(needed(1000, 100, 32) < 16_777_216 * 24);
        // Many faces: as they are trained on, and once more while they are judged.
        assert!(needed(1_000_000, 1000, 32) >= 2 * 1_000_000 * 512 * 4);
        assert_eq!(needed(u64::MAX, 1, 32), u64::MAX);
    }

    #[test]
    fn people_are_numbered_in_their_order_and_what_cannot_be_compared_is_left_out() {
        let face = |number: u128, person: u128, embedding: Vec<f32>| TrainingFace {
            face: FaceId::from(Uuid::from_u128(number)),
            person: PersonId::from(Uuid::from_u128(person)),
            embedding,
        };
        let mut labelled = Labelled::new(&TrainingSupply { people: 3, below: 0, faces: 5, pairs: 4, dim: 2 });
        let all = [(7, vec![3.0, 4.0]), (7, vec![1.0]), (8, vec![0.0, 0.0]), (9, vec![0.0, 2.0]), (9, vec![1.0, 0.0])];
        for (number, (person, embedding)) in (0..).zip(all) {
            labelled.push(face(number, person, embedding));
        }
        assert_eq!(labelled.people, [0, 1, 1]);
        assert_eq!(labelled.values, [0.6, 0.8, 0.0, 1.0, 1.0, 0.0]);
        let (faces, listed) = Given { labelled, settings: settings(&TrainParams::default(), 2) }.faces().unwrap();
        assert_eq!((faces.len(), listed), (3, [0, 3, 4].map(|number| FaceId::from(Uuid::from_u128(number))).to_vec()));
    }
}
