//! What a collection takes: its vectors' dimension, and the limits that an operator set on it (Qdrant's strict mode). Read
//! by `ensure`; a limit that is set later is met by smaller calls (see `batch`).

use qdrant_client::qdrant::StrictModeConfig;

use crate::VecError;

/// Items a call where the collection sets no limit: 512 numbers each make two megabytes.
const BATCH: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// `None` before `ensure`: the server knows.
    pub(crate) dim: Option<usize>,
    /// Points a write.
    pub(crate) upserts: usize,
    /// Queries a call.
    pub(crate) queries: usize,
    /// Points an answer.
    pub(crate) page: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { dim: None, upserts: BATCH, queries: BATCH, page: u32::MAX }
    }
}

impl Limits {
    pub(crate) fn of(dim: u32, strict: Option<&StrictModeConfig>) -> Self {
        let none = Self { dim: usize::try_from(dim).ok(), ..Self::default() };
        let Some(strict) = strict.filter(|strict| strict.enabled == Some(true)) else { return none };
        let size = |limit: Option<u64>| limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(BATCH).clamp(1, BATCH);
        Self {
            upserts: size(strict.upsert_max_batchsize),
            queries: size(strict.search_max_batchsize),
            page: strict.max_query_limit.unwrap_or(u32::MAX).max(1),
            ..none
        }
    }

    /// Whether an embedding can be sent at all.
    pub(crate) fn check(&self, embedding: &[f32]) -> Result<(), VecError> {
        if let Some(dim) = self.dim.filter(|dim| *dim != embedding.len()) {
            let found = embedding.len();
            return Err(VecError::Rejected(format!("an embedding of {found} numbers where the collection has {dim}")));
        }
        if embedding.iter().any(|number| !number.is_finite()) {
            return Err(VecError::Rejected("an embedding holds a number that is not finite".to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_only_where_strict_mode_is_on() {
        let mut strict = StrictModeConfig {
            enabled: Some(true),
            max_query_limit: Some(10),
            upsert_max_batchsize: Some(100),
            search_max_batchsize: Some(0),
            ..StrictModeConfig::default()
        };
        let limits = Limits::of(8, Some(&strict));
        assert_eq!(limits, Limits { dim: Some(8), upserts: 100, queries: 1, page: 10 });
        strict.enabled = None;
        assert_eq!(Limits::of(8, Some(&strict)), Limits { dim: Some(8), ..Limits::default() });
        assert_eq!(Limits::of(8, None), Limits { dim: Some(8), ..Limits::default() });
    }

    #[test]
    fn what_cannot_be_sent_is_known_before() {
        let limits = Limits::of(2, None);
        assert!(limits.check(&[0.6, 0.8]).is_ok());
        for bad in [&[0.6][..], &[0.6, f32::NAN], &[f32::INFINITY, 0.0], &[]] {
            assert!(matches!(limits.check(bad), Err(VecError::Rejected(_))), "{bad:?}");
        }
        assert!(Limits::default().check(&[1.0; 7]).is_ok(), "the dimension is not known yet");
    }
}
