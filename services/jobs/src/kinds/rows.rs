//! The faces that are nobody's, read from Postgres in the order of their ids: in blocks or all at once, and of all only
//! the newest where a job wants no more. What is done with them is elsewhere.

use std::collections::HashSet;
use std::ops::Range;

use facewire_domain::{ClusterId, CollectionId, FaceId};
use facewire_store_pg::{FaceVector, UnknownFilter};
use time::OffsetDateTime;

use super::Context;
use crate::failure::JobError;
use crate::progress::Progress;

/// Faces of one question to Postgres: 2 MB of embeddings.
const PAGE: u32 = 1024;

/// A length below this has no direction.
const SHORTEST: f32 = 1e-6;

/// A face without its embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    pub(crate) face: FaceId,
    /// The cluster that it is in.
    pub(crate) cluster: Option<ClusterId>,
}

/// Faces, and their embeddings one after the other. No `Debug`: embeddings are biometric.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) faces: Vec<Row>,
    /// `dim` numbers a face, of length one.
    pub(crate) values: Vec<f32>,
}

impl Rows {
    /// Takes a face, unless its embedding cannot be compared with others.
    fn push(&mut self, face: FaceVector, dim: usize) {
        let Some(embedding) = normalised(face.embedding, dim) else { return };
        self.values.extend(embedding);
        self.faces.push(Row { face: face.face, cluster: face.cluster });
    }

    /// The embeddings of some faces; empty past the end.
    pub(crate) fn values_of(&self, rows: Range<usize>, dim: usize) -> &[f32] {
        self.values.get(rows.start * dim..rows.end * dim).unwrap_or_default()
    }
}

/// An embedding of length one; `None` where it has another number of numbers, or no direction.
pub(crate) fn normalised(mut embedding: Vec<f32>, dim: usize) -> Option<Vec<f32>> {
    let norm = embedding.iter().map(|x| x * x).sum::<f32>().sqrt();
    let usable = embedding.len() == dim && norm.is_finite() && norm > SHORTEST;
    usable.then(|| {
        embedding.iter_mut().for_each(|x| *x /= norm);
        embedding
    })
}

/// Which faces.
#[derive(Debug, Clone)]
pub(crate) struct Choice<'a> {
    pub(crate) collection: &'a CollectionId,
    pub(crate) filter: UnknownFilter,
    /// Not these.
    pub(crate) without: &'a HashSet<FaceId>,
    /// Not so many of those that were taken at this moment: the ones with the lowest ids.
    pub(crate) skip: Option<(OffsetDateTime, u64)>,
}

impl<'a> Choice<'a> {
    /// All that the filter leaves.
    pub(crate) fn of(collection: &'a CollectionId, filter: UnknownFilter, without: &'a HashSet<FaceId>) -> Self {
        Self { collection, filter, without, skip: None }
    }

    /// How many faces the filter leaves.
    pub(crate) async fn count(&self, context: &Context) -> Result<u64, JobError> {
        let (store, model) = (context.store(), &context.gallery.model);
        context.ask(|| store.count_unknown_faces(self.collection, model, &self.filter)).await
    }

    /// Narrows it to the `most` newest faces. How many it has then.
    pub(crate) async fn narrow(&mut self, context: &Context, most: Option<u64>) -> Result<u64, JobError> {
        let count = self.count(context).await?;
        let Some(most) = most.filter(|most| *most < count) else { return Ok(count) };
        let (store, model) = (context.store(), &context.gallery.model);
        let since = context.ask(|| store.newest_unknown_since(self.collection, model, &self.filter, most)).await?;
        let Some(since) = since else { return Ok(count) };
        self.filter.captured_since = Some(since);
        // Faces that were taken at the same moment as the last of them are left too.
        let left = self.count(context).await?;
        self.skip = Some((since, left.saturating_sub(most)));
        Ok(left.min(most))
    }
}

/// Reads a choice, page by page.
pub(crate) struct Reader<'a> {
    context: &'a Context,
    choice: &'a Choice<'a>,
    after: Option<FaceId>,
    /// See [`Choice::skip`].
    skip: Option<(OffsetDateTime, u64)>,
    ended: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(context: &'a Context, choice: &'a Choice<'a>) -> Self {
        Self { context, choice, after: None, skip: choice.skip, ended: false }
    }

    /// The next faces, which may be none of a page; `None` at the end.
    pub(crate) async fn page(&mut self) -> Result<Option<Vec<FaceVector>>, JobError> {
        if self.ended {
            return Ok(None);
        }
        let (context, choice, after) = (self.context, self.choice, self.after);
        let (store, model) = (context.store(), &context.gallery.model);
        let page = context.ask(|| store.unknown_faces(choice.collection, model, &choice.filter, after, PAGE)).await?;
        let Some(last) = page.last() else {
            self.ended = true;
            return Ok(None);
        };
        self.after = Some(last.face);
        Ok(Some(page.into_iter().filter(|face| self.takes(face)).collect()))
    }

    fn takes(&mut self, face: &FaceVector) -> bool {
        !self.choice.without.contains(&face.face) && !skips(&mut self.skip, face.captured_at)
    }

    /// The next `least` faces or a few more, fewer at the end; `None` after it.
    pub(crate) async fn block(&mut self, least: usize) -> Result<Option<Rows>, JobError> {
        let (mut rows, dim) = (Rows::default(), self.context.dim());
        while rows.faces.len() < least {
            let Some(page) = self.page().await? else { break };
            page.into_iter().for_each(|face| rows.push(face, dim));
        }
        Ok((!rows.faces.is_empty() || !self.ended).then_some(rows))
    }
}

/// All faces of a choice, some `expected` of them.
pub(crate) async fn all(
    context: &Context,
    choice: &Choice<'_>,
    expected: u64,
    progress: &Progress,
) -> Result<Rows, JobError> {
    progress.begin("reading", expected);
    let (mut reader, dim) = (Reader::new(context, choice), context.dim());
    let mut rows = Rows::default();
    // Known before: growing would hold twice as much for a moment.
    rows.values.reserve_exact(usize::try_from(expected).unwrap_or_default().saturating_mul(dim));
    while let Some(page) = reader.page().await? {
        progress.add(page.len() as u64);
        page.into_iter().for_each(|face| rows.push(face, dim));
    }
    Ok(rows)
}

/// Whether a face of this moment is one of those to be skipped, of which there is one less then.
fn skips(skip: &mut Option<(OffsetDateTime, u64)>, captured_at: OffsetDateTime) -> bool {
    match skip {
        Some((at, left)) if *left > 0 && *at == captured_at => {
            *left -= 1;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedding_has_the_right_length_or_is_none() {
        assert_eq!(normalised(vec![3.0, 4.0], 2), Some(vec![0.6, 0.8]));
        for bad in [vec![1.0], vec![f32::NAN, 0.0], vec![f32::INFINITY, 0.0], vec![0.0, 0.0]] {
            assert_eq!(normalised(bad, 2), None);
        }
    }

    #[test]
    fn so_many_of_one_moment_are_skipped() {
        let at = |second| OffsetDateTime::from_unix_timestamp(second).unwrap();
        let mut skip = Some((at(5), 2));
        let skipped: Vec<bool> = [7, 5, 6, 5, 5].map(|second| skips(&mut skip, at(second))).to_vec();
        assert_eq!(skipped, [false, true, false, true, false]);
        assert!(!skips(&mut None, at(5)));
    }
}
