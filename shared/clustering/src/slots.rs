//! Reads and writes by an index that this crate made itself: in range by construction, and no panic if ever not.

use std::ops::Range;

/// The value there.
pub(crate) fn at<T: Copy + Default>(values: &[T], index: usize) -> T {
    debug_assert!(index < values.len());
    values.get(index).copied().unwrap_or_default()
}

/// Replaces the value there.
pub(crate) fn put<T>(values: &mut [T], index: usize, value: T) {
    debug_assert!(index < values.len());
    if let Some(slot) = values.get_mut(index) {
        *slot = value;
    }
}

/// The values of a range.
pub(crate) fn part<T>(values: &[T], range: Range<usize>) -> &[T] {
    debug_assert!(range.end <= values.len());
    values.get(range).unwrap_or_default()
}

/// The values of a range, to be changed.
pub(crate) fn part_mut<T>(values: &mut [T], range: Range<usize>) -> &mut [T] {
    debug_assert!(range.end <= values.len());
    values.get_mut(range).unwrap_or_default()
}
