//! The kind `train`: a projection head is trained on the faces of known people, epoch by epoch with a checkpoint after each, judged by
//! people whom it has never seen, and kept with its verdict. Where faces are erased meanwhile, it begins anew without them. Whether
//! the head is used is somebody else's to say.

use facewire_domain::model::HEAD_DIGITS;
use facewire_domain::{FaceId, HeadState, TrainParams};
use facewire_evaluation::{
    self as evaluation, HeadEpoch, HeadTraining, HeadVerdict, HeldOutError, OpenSet, Resampling, held_out, judge_head,
};
use facewire_store_pg::{HeadCheckpoint, HeadRecord, NewHead};
use facewire_training::{EpochReport, Faces, Head, Progress, Run, TrainError, Trainer};
use serde::de::DeserializeOwned;
use serde_json::{Value as JsonValue, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::training::{Given, base_model, erased, read};
use super::{Task, told};
use crate::compute::{Watch, on_thread};
use crate::failure::JobError;

/// Times that one attempt begins anew because faces were erased. Whoever erases more often than an epoch takes would keep it for ever.
const BEGINNINGS: u32 = 5;
/// Parts of the verdict: three experiments, and the comparison of them.
const JUDGING: f64 = 4.0;

pub(super) async fn run(task: Task<'_>, params: &TrainParams) -> Result<JsonValue, JobError> {
    let (context, job) = (task.context, task.record.job);
    // An earlier attempt may have kept it, and died before it could say so.
    if let Some(head) = context.ask(|| context.store().head_of_job(job)).await? {
        task.progress.commit();
        return result(&head);
    }
    let judged = judged(task, params).await?;
    write(task, &judged).await?;
    match context.ask(|| context.store().head_of_job(job)).await? {
        Some(head) => result(&head),
        None => Err(JobError::Withdrawn),
    }
}

/// Trains and judges, and anew where faces were erased meanwhile.
async fn judged(task: Task<'_>, params: &TrainParams) -> Result<Judged, JobError> {
    let (context, job) = (task.context, task.record.job);
    for _ in 0..BEGINNINGS {
        if let Some(judged) = trained(task, params).await? {
            return Ok(judged);
        }
        context.ask(|| context.store().drop_head_checkpoints(job)).await?;
    }
    Err(JobError::Refused(format!(
        "faces that it trains on were erased or removed while it ran, {BEGINNINGS} times: start it again once that is over"
    )))
}

/// Trains and judges. `None` where faces were erased that it has learnt of, or that judged it: nothing of it counts then. Faces that
/// were given to somebody else meanwhile may stay: they are not to be forgotten.
async fn trained(task: Task<'_>, params: &TrainParams) -> Result<Option<Judged>, JobError> {
    let mut training = begin(task, params).await?;
    let mut pace = Pace::of(&training.trainer);
    task.progress.begin("training", u64::from(training.trainer.settings().epochs));
    task.progress.say(pace.words(&training));
    while training.trainer.finished().is_none() {
        let (next, checkpoint) = epoch(task, training).await?;
        training = next;
        if were_erased(task, &training.used).await? {
            return Ok(None);
        }
        keep(task, &checkpoint).await?;
        pace.done += 1;
        task.progress.say(pace.words(&training));
    }
    task.progress.begin("judging", 100);
    let used = std::mem::take(&mut training.used);
    let judged = on_thread(task.progress, move |watch| judge(training, watch)).await??;
    Ok((!were_erased(task, &used).await?).then_some(judged))
}

async fn were_erased(task: Task<'_>, used: &[FaceId]) -> Result<bool, JobError> {
    let (job, faces) = (task.record.job, erased(task, used).await?);
    if faces > 0 {
        tracing::warn!(%job, faces, "faces that a training uses were erased: what was learnt is dropped");
    }
    Ok(faces > 0)
}

/// A training between two epochs.
struct Training {
    trainer: Trainer,
    history: Vec<HeadEpoch>,
    /// Which faces it trains on, validates and is judged by.
    used: Vec<FaceId>,
}

/// Goes on from the last checkpoint of an earlier attempt, or begins.
async fn begin(task: Task<'_>, params: &TrainParams) -> Result<Training, JobError> {
    let (context, job) = (task.context, task.record.job);
    let checkpoints = context.ask(|| context.store().head_checkpoints(job)).await?;
    for checkpoint in checkpoints {
        let (given, epoch) = (read(task, params).await?, checkpoint.epoch);
        let resumed = on_thread(task.progress, move |_| resume(given, checkpoint)).await?;
        match resumed {
            Ok(training) => return Ok(training),
            // Faces were erased, or given to somebody else, since: what was learnt of them is not gone on from.
            Err(error) => tracing::warn!(%job, epoch, %error, "a training does not go on from a checkpoint"),
        }
    }
    context.ask(|| context.store().drop_head_checkpoints(job)).await?;
    let given = read(task, params).await?;
    task.progress.begin("starting", 0);
    Ok(on_thread(task.progress, move |_| start(given)).await??)
}

fn start(given: Given) -> Result<Training, TrainError> {
    let settings = given.settings.clone();
    let (faces, used) = given.faces()?;
    Ok(Training { trainer: Trainer::new(faces, settings)?, history: Vec::new(), used })
}

fn resume(given: Given, checkpoint: HeadCheckpoint) -> Result<Training, TrainError> {
    let (faces, used) = given.faces()?;
    let trainer = Trainer::resume(faces, &checkpoint.bytes)?;
    let history: Vec<HeadEpoch> = serde_json::from_value(checkpoint.history)
        .map_err(|error| TrainError::Checkpoint(format!("its history cannot be read: {error}")))?;
    Ok(Training { trainer, history, used })
}

/// One epoch, and what whoever takes the job over goes on from after it. Dropped, it ends at its next step, and nothing of it is kept.
async fn epoch(task: Task<'_>, training: Training) -> Result<(Training, HeadCheckpoint), JobError> {
    on_thread(task.progress, move |watch| advance(training, watch)).await?
}

fn advance(mut training: Training, watch: &Watch) -> Result<(Training, HeadCheckpoint), JobError> {
    let Training { trainer, history, .. } = &mut training;
    let (done, epochs) = (f64::from(trainer.epochs_done()), f64::from(trainer.settings().epochs));
    let reached = |at: Progress| watch.reached((done + at.step as f64 / at.steps.max(1) as f64) / epochs);
    let report = trainer.epoch(&Run { watch: &reached })?;
    history.push(epoch_of(&report));
    let checkpoint =
        HeadCheckpoint { epoch: trainer.epochs_done(), history: told(history)?, bytes: trainer.checkpoint()? };
    Ok((training, checkpoint))
}

fn epoch_of(report: &EpochReport) -> HeadEpoch {
    HeadEpoch {
        epoch: report.epoch,
        loss: report.loss,
        validation_loss: report.validation.loss,
        validation_rate: report.validation.rate,
        improved: report.improved,
    }
}

async fn keep(task: Task<'_>, checkpoint: &HeadCheckpoint) -> Result<(), JobError> {
    let (context, token) = (task.context, task.token());
    if context.ask(|| context.store().put_head_checkpoint(token, checkpoint)).await? {
        Ok(())
    } else {
        Err(JobError::Withdrawn)
    }
}

/// How fast this attempt is.
struct Pace {
    started: Instant,
    /// Epochs of this attempt.
    done: u32,
    epochs: u32,
}

impl Pace {
    fn of(trainer: &Trainer) -> Self {
        Self { started: Instant::now(), done: 0, epochs: trainer.settings().epochs }
    }

    /// `training: epoch 3 of 20, loss 0.1234, validation loss 0.0987, 40 s left`.
    fn words(&self, training: &Training) -> String {
        let epoch = training.trainer.epochs_done();
        let mut words = format!("training: epoch {epoch} of {}", self.epochs);
        if let Some(last) = training.history.last() {
            words += &format!(", loss {:.4}, validation loss {:.4}", last.loss, last.validation_loss);
        }
        if self.done > 0 {
            let left = f64::from(self.epochs.saturating_sub(epoch)) / f64::from(self.done);
            words += &format!(", {:.0} s left", self.started.elapsed().as_secs_f64() * left);
        }
        words
    }
}

/// A head and what is known of it.
struct Judged {
    dim: usize,
    onnx: Vec<u8>,
    training: HeadTraining,
    verdict: HeadVerdict,
}

/// Judges the best head by the people who were held out, beside the embeddings as they are and their principal components. Dropped, it
/// ends at its next block of probes, or at its next resample.
fn judge(training: Training, watch: &Watch) -> Result<Judged, JobError> {
    let Training { trainer, history, .. } = training;
    let reached = |before: u32| move |part: f64| watch.reached((f64::from(before) + part) / JUDGING);
    let (faces, split, head) = (trainer.faces(), trainer.split(), trainer.best());
    let (input, output) = (head.shape().input, head.shape().output);
    let rows: Vec<usize> = rows_of(faces, &split.test);
    let whose = rows.iter().filter_map(|row| Some((*faces.people().get(*row)?, faces.row(*row))));
    let raw = held_out(input, whose, &reached(0)).map_err(HeldOutError::from)?;
    let pca = projected(faces, &rows, &trainer.pca(), &reached(1))?;
    let projected = projected(faces, &rows, &head, &reached(2))?;
    let sets = [(input, &raw), (output, &pca), (output, &projected)];
    let verdict = judge_head(sets, Resampling::default(), &reached(3)).map_err(HeldOutError::from)?;
    let training = HeadTraining {
        faces: faces.len(),
        trained: split.train.len(),
        validated: split.validation.len(),
        held_out: split.test.len(),
        best_epoch: trainer.best_epoch(),
        history,
    };
    Ok(Judged { dim: output, onnx: head.to_onnx(), training, verdict })
}

/// The rows of these people, one after another, each person's ascending.
fn rows_of(faces: &Faces, people: &[u32]) -> Vec<usize> {
    let mut all = vec![Vec::new(); people.iter().max().map_or(0, |most| *most as usize + 1)];
    for (row, person) in faces.people().iter().enumerate() {
        if let Some(rows) = all.get_mut(*person as usize) {
            rows.push(row);
        }
    }
    people.iter().filter_map(|person| all.get(*person as usize)).flatten().copied().collect()
}

/// The experiment on what a head makes of these rows.
fn projected(faces: &Faces, rows: &[usize], head: &Head, watch: evaluation::Watch<'_>) -> Result<OpenSet, JobError> {
    // Known before: growing would hold more than twice as much for a moment.
    let mut values: Vec<f32> = Vec::with_capacity(rows.len().saturating_mul(faces.dim()));
    rows.iter().for_each(|row| values.extend_from_slice(faces.row(*row)));
    let (projected, dim) = (head.project(&values)?, head.shape().output);
    drop(values);
    let people = rows.iter().filter_map(|row| faces.people().get(*row).copied());
    Ok(held_out(dim, people.zip(projected.chunks_exact(dim.max(1))), watch).map_err(HeldOutError::from)?)
}

/// Keeps the head with its verdict; a second time it is found kept.
async fn write(task: Task<'_>, judged: &Judged) -> Result<(), JobError> {
    task.progress.begin("writing", 0);
    task.progress.commit();
    let (context, record) = (task.context, task.record);
    let (training, verdict) = (told(&judged.training)?, told(&judged.verdict)?);
    let digest = Sha256::digest(&judged.onnx);
    let fingerprint: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let head = NewHead {
        collection: task.collection(),
        model: base_model(context),
        fingerprint: fingerprint.get(..HEAD_DIGITS).unwrap_or(&fingerprint),
        dim: judged.dim as u32,
        params: &record.params,
        training: &training,
        verdict: &verdict,
        state: if judged.verdict.accepted { HeadState::Accepted } else { HeadState::Refused },
        onnx: &judged.onnx,
    };
    match context.ask(|| context.store().put_head(task.token(), &head, &record.actor)).await? {
        Some(_) => Ok(()),
        None => Err(JobError::Withdrawn),
    }
}

/// What came of the job, as the head's row says it.
fn result(head: &HeadRecord) -> Result<JsonValue, JobError> {
    let training: HeadTraining = kept(head.training.clone())?;
    let verdict: HeadVerdict = kept(head.verdict.clone().unwrap_or_default())?;
    Ok(json!({
        "headId": head.head,
        "fingerprint": head.fingerprint,
        "accepted": verdict.accepted,
        "faces": training.faces,
        "persons": training.trained + training.validated + training.held_out,
        "trained": training.trained,
        "validated": training.validated,
        "heldOut": training.held_out,
        "epochs": training.history.len(),
        "bestEpoch": training.best_epoch,
        "tpir": { "raw": verdict.raw.tpir, "pca": verdict.pca.tpir, "head": verdict.head.tpir },
        "overRaw": verdict.over_raw,
        "overPca": verdict.over_pca,
    }))
}

/// What was written of a head before.
fn kept<T: DeserializeOwned>(value: JsonValue) -> Result<T, JobError> {
    serde_json::from_value(value).map_err(|error| JobError::Refused(format!("the head's row cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use facewire_evaluation::CompareError;

    use super::*;
    use crate::kinds::training::settings;
    use crate::progress;

    /// A training of as few people as there may be, before its first epoch.
    fn begun() -> Training {
        let people: Vec<u32> = (0..80).flat_map(|person| [person; 5]).collect();
        let row = |(row, person): (usize, &u32)| {
            let (one, other) = (f64::from(*person), row as f64 * 0.01);
            [one.cos() * other.cos(), one.sin() * other.cos(), one.cos() * other.sin(), one.sin() * other.sin()]
        };
        let values: Vec<f32> = people.iter().enumerate().flat_map(row).map(|value| value as f32).collect();
        let faces = Faces::new(4, values, people).unwrap();
        let trainer = Trainer::new(faces, settings(&TrainParams::default(), 4)).unwrap();
        Training { trainer, history: Vec::new(), used: Vec::new() }
    }

    #[test]
    fn a_verdict_gives_signs_of_life() {
        let progress: Arc<progress::Progress> = Arc::default();
        progress.begin("judging", 100);
        let before = progress.signs();
        assert!(judge(begun(), &Watch::of(&progress, false)).is_ok());
        // Three experiments of two searches each, and every resample.
        assert_eq!(progress.signs() - before, 6 + Resampling::default().resamples as u64);
        assert_eq!(progress.now().done, 100);
    }

    #[test]
    fn a_verdict_nobody_waits_for_ends_at_its_first_search() {
        let progress: Arc<progress::Progress> = Arc::default();
        let ended = judge(begun(), &Watch::of(&progress, true));
        assert!(matches!(ended, Err(JobError::Unjudged(HeldOutError::Compare(CompareError::Cancelled)))));
        assert_eq!(progress.signs(), 1);
    }

    #[test]
    fn rows_come_by_person_in_the_order_asked_for() {
        let values: Vec<f32> = [[1.0, 0.0]; 5].concat();
        let faces = Faces::new(2, values, vec![0, 1, 1, 3, 0]).unwrap();
        assert_eq!(rows_of(&faces, &[3, 0]), [3, 0, 4]);
        assert_eq!(rows_of(&faces, &[2]), [0; 0]);
        assert_eq!(rows_of(&faces, &[]), [0; 0]);
    }
}
