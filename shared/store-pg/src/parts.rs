//! How a batch is cut for its statements: into chunks, and where the data of one row is refused into ever smaller parts, until
//! only the row at fault fails and all others are written.

use std::ops::Range;

use facewire_domain::FaultKind;

use crate::error::StoreError;
use crate::store::CHUNK;

/// The parts of a batch that are still to be written, in its order.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The next one last.
    waiting: Vec<Range<usize>>,
}

impl Parts {
    /// Of a batch of `len` items.
    pub(crate) fn of(len: usize) -> Self {
        let starts = (0..len).step_by(CHUNK);
        Self { waiting: starts.rev().map(|start| start..len.min(start + CHUNK)).collect() }
    }

    /// The next part to write.
    pub(crate) fn next(&mut self) -> Option<Range<usize>> {
        self.waiting.pop()
    }

    /// What to do about a part that was not written. `None`: its halves come next. An index: that item is at fault, alone.
    ///
    /// # Errors
    /// The error itself where it is no item's fault: nothing else of the batch can be written either.
    pub(crate) fn failed(&mut self, part: Range<usize>, error: StoreError) -> Result<Option<usize>, StoreError> {
        if error.kind() != FaultKind::Poison {
            return Err(error);
        }
        if part.len() <= 1 {
            return Ok(Some(part.start));
        }
        let middle = part.start + part.len() / 2;
        self.waiting.push(middle..part.end);
        self.waiting.push(part.start..middle);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_but_the_ones_at_fault_is_written_once_and_in_order() {
        let bad = [3, 1030, 2047];
        let (mut written, mut faults) = (Vec::new(), Vec::new());
        let mut parts = Parts::of(2048 + 7);
        while let Some(part) = parts.next() {
            if part.clone().any(|item| bad.contains(&item)) {
                let error = StoreError::Invalid { index: 0, what: "bad" };
                faults.extend(parts.failed(part, error).unwrap());
            } else {
                written.extend(part);
            }
        }
        assert_eq!(faults, bad);
        let rest: Vec<usize> = (0..2055).filter(|item| !bad.contains(item)).collect();
        assert_eq!(written, rest);
    }

    #[test]
    fn an_error_that_is_no_items_fault_ends_the_batch() {
        let mut parts = Parts::of(9);
        let part = parts.next().unwrap();
        let error = StoreError::Unavailable { operation: "finish", cause: "57P01".to_owned() };
        assert_eq!(parts.failed(part, error.clone()), Err(error));
        assert!(parts.next().is_none());
        assert!(Parts::of(0).next().is_none());
    }
}
