//! The kind `export`: the lines of `GET /exports` in the object store, part by part. Whoever takes the job over goes on behind the last
//! part, to the same bytes. What was exported while something was erased does not count. What a line is, and how long an export is
//! kept, is the gallery's.

use facewire_domain::ExportParams;
use facewire_gallery::export::{Export, Line, Page, Place, Sum};
use facewire_gallery::{EXPORT_PART_BYTES, ExportPart, ExportResult, GalleryError, export_is_whole};
use facewire_store_object::{ExportKey, ListedExport};
use serde_json::Value as JsonValue;
use time::OffsetDateTime;

use super::{Task, told};
use crate::failure::JobError;

/// Times that an attempt begins at most: anew once, where something was erased meanwhile.
const BEGINNINGS: u32 = 2;

pub(super) async fn run(task: Task<'_>, params: &ExportParams) -> Result<JsonValue, JobError> {
    let context = task.context;
    if context.gallery.images.is_none() {
        return Err(GalleryError::NoExports.into());
    }
    for _ in 0..BEGINNINGS {
        let generation = generation(task).await?;
        let mut writer = Writer::begin(task, params, generation).await?;
        writer.write_all().await?;
        if let Some(result) = finished(task, &writer).await? {
            // Of a collection one job runs at a time: nobody else finishes one meanwhile.
            context.ask(|| context.gallery.drop_oldest_exports(task.collection(), task.record.job)).await?;
            return told(&result);
        }
        tracing::warn!(job = %task.record.job, "something was erased during an export: what was written is dropped");
    }
    drop_parts(task, parts(task).await?).await?;
    Err(JobError::Refused(format!(
        "something was erased from the collection while it was exported, {BEGINNINGS} times: start it again once the erasures are over"
    )))
}

async fn generation(task: Task<'_>) -> Result<u64, JobError> {
    task.context.ask(|| task.context.store().erasure_generation(task.collection())).await
}

/// The job's parts, of whatever generation.
async fn parts(task: Task<'_>) -> Result<Vec<ListedExport>, JobError> {
    let (context, job) = (task.context, task.record.job);
    context.ask(|| context.gallery.export_parts(task.collection(), job)).await
}

async fn drop_parts(task: Task<'_>, parts: Vec<ListedExport>) -> Result<(), JobError> {
    let keys: Vec<ExportKey> = parts.into_iter().map(|part| part.key).collect();
    task.context.ask(|| task.context.gallery.drop_export_parts(&keys)).await
}

/// What came of it; `None` where something was erased since it began, or parts are gone.
async fn finished(task: Task<'_>, writer: &Writer<'_>) -> Result<Option<ExportResult>, JobError> {
    let listed = parts(task).await?;
    let bytes: u64 = listed.iter().map(|part| part.size).sum();
    let keys: Vec<ExportKey> = listed.into_iter().map(|part| part.key).collect();
    let one_generation = keys.iter().all(|key| key.generation == writer.generation);
    let whole = one_generation && export_is_whole(&keys) && keys.len() as u64 == u64::from(writer.number);
    // Asked last: whoever erases after this answer removes what is there.
    if !whole || generation(task).await? != writer.generation {
        return Ok(None);
    }
    let Sum { persons, faces } = writer.place.sum();
    let expires_at = OffsetDateTime::now_utc() + task.context.options.export_retention;
    Ok(Some(ExportResult { faces, persons, parts: u64::from(writer.number), bytes, expires_at }))
}

/// Writes one export, part by part.
struct Writer<'a> {
    task: Task<'a>,
    export: Export,
    generation: u64,
    /// Of the next part.
    number: u32,
    /// Behind the last page that was read.
    place: Place,
    /// What has been read and not written yet: whole lines, and how many persons and faces there were to their end.
    part: ExportPart,
}

impl<'a> Writer<'a> {
    /// Behind the last whole part of an earlier attempt, or at the beginning. Other parts of the job go.
    async fn begin(task: Task<'a>, params: &ExportParams, generation: u64) -> Result<Self, JobError> {
        let context = task.context;
        let (mine, mut others): (Vec<ListedExport>, Vec<ListedExport>) =
            parts(task).await?.into_iter().partition(|part| part.key.generation == generation);
        let unbroken = mine.iter().zip(0..).take_while(|(part, number)| part.key.number == *number).count();
        let written = match unbroken.checked_sub(1).and_then(|last| mine.get(last)) {
            Some(last) => behind(task, &last.key).await?,
            None => None,
        };
        let (number, place) = match written {
            Some(place) => (unbroken as u32, place),
            None => (0, Place::default()),
        };
        others.extend(mine.into_iter().skip(number as usize));
        drop_parts(task, others).await?;
        let counted = context.ask(|| context.store().gallery(Some(task.collection()))).await?;
        task.progress.begin("exporting", counted.faces);
        task.progress.add(place.sum().faces);
        let export = Export { collection: task.collection().clone(), vectors: params.vectors };
        let part = ExportPart { text: Vec::new(), sum: place.sum() };
        Ok(Self { task, export, generation, number, place, part })
    }

    async fn write_all(&mut self) -> Result<(), JobError> {
        let context = self.task.context;
        loop {
            let (export, place) = (&self.export, &self.place);
            let page = context.ask(|| export.page(context.store(), place)).await?;
            let Some(Page { lines, next }) = page else { return self.write().await };
            for line in &lines {
                self.add(line).await?;
            }
            self.task.progress.add(next.sum().faces.saturating_sub(self.place.sum().faces));
            self.place = next;
        }
    }

    async fn add(&mut self, line: &Line) -> Result<(), JobError> {
        let text = line.text().map_err(|error| JobError::Refused(format!("a line cannot be written: {error}")))?;
        if self.part.text.len() + text.len() > EXPORT_PART_BYTES {
            self.write().await?;
        }
        self.part.text.extend(text);
        self.part.sum = self.part.sum.and(line);
        Ok(())
    }

    /// Writes the part that has been read, if it holds anything.
    async fn write(&mut self) -> Result<(), JobError> {
        if self.part.text.is_empty() {
            return Ok(());
        }
        let (task, sum) = (self.task, self.part.sum);
        let text = std::mem::take(&mut self.part.text);
        let part = ExportPart { text, sum };
        let key = ExportKey {
            collection: task.collection().clone(),
            job: task.record.job,
            generation: self.generation,
            number: self.number,
        };
        let gallery = &task.context.gallery;
        if !task.context.ask(|| gallery.keep_export_part(&key, part.clone())).await? {
            // By a worker that has lost the job without knowing it, or has taken it over: whoever has it goes on behind that part.
            return Err(JobError::Withdrawn);
        }
        self.number += 1;
        Ok(())
    }
}

/// The place behind a part; `None` where it is none that can be gone on from.
async fn behind(task: Task<'_>, key: &ExportKey) -> Result<Option<Place>, JobError> {
    match task.context.ask(|| task.context.gallery.export_part(key)).await {
        Ok(part) => Ok(part.and_then(|part| part.end())),
        Err(JobError::Store(error @ GalleryError::BrokenPart { .. })) => {
            tracing::warn!(job = %task.record.job, %error, "an export begins anew");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
