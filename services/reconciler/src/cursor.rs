//! Both sides of the merge join: pages of rows and of points in id order, read when they are needed. Memory is one page a
//! side.

use std::collections::VecDeque;

use facewire_domain::FaceId;
use facewire_store_pg::{FaceRecord, Store};
use facewire_store_vec::{StoredPoint, VecStore};

use crate::ReconcileError;

/// Rows of Postgres.
pub(crate) struct Rows<'a> {
    store: &'a Store,
    page: VecDeque<FaceRecord>,
    after: Option<FaceId>,
    batch: u32,
    ended: bool,
}

/// Points of the vector engine.
pub(crate) struct Points<'a> {
    vectors: &'a VecStore,
    page: VecDeque<StoredPoint>,
    after: Option<FaceId>,
    next: Option<FaceId>,
    batch: u32,
    ended: bool,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(store: &'a Store, batch: u32) -> Self {
        Self { store, page: VecDeque::new(), after: None, batch, ended: false }
    }

    /// Those behind this face alone.
    pub(crate) fn behind(self, after: Option<FaceId>) -> Self {
        Self { after, ..self }
    }

    /// The id of the next row.
    pub(crate) async fn peek(&mut self) -> Result<Option<FaceId>, ReconcileError> {
        if self.page.is_empty() && !self.ended {
            self.page = self.store.records_after(self.after, self.batch).await?.into();
            self.ended = self.page.is_empty();
            self.after = self.page.back().map(|record| record.face).or(self.after);
        }
        Ok(self.page.front().map(|record| record.face))
    }

    pub(crate) fn take(&mut self) -> Option<FaceRecord> {
        self.page.pop_front()
    }
}

impl<'a> Points<'a> {
    pub(crate) fn new(vectors: &'a VecStore, batch: u32) -> Self {
        Self { vectors, page: VecDeque::new(), after: None, next: None, batch, ended: false }
    }

    /// Those behind this face alone.
    pub(crate) fn behind(self, after: Option<FaceId>) -> Self {
        Self { after, next: after, ..self }
    }

    /// The id of the next point.
    pub(crate) async fn peek(&mut self) -> Result<Option<FaceId>, ReconcileError> {
        while self.page.is_empty() && !self.ended {
            let page = self.vectors.scroll(self.next, self.batch, false).await?;
            (self.page, self.next) = (page.points.into(), page.next);
            self.ended = self.next.is_none();
            // A scroll begins with the point that it is given.
            if self.after.is_some() && self.page.front().map(|point| point.face) == self.after {
                self.page.pop_front();
            }
        }
        Ok(self.page.front().map(|point| point.face))
    }

    pub(crate) fn take(&mut self) -> Option<StoredPoint> {
        self.page.pop_front()
    }
}
