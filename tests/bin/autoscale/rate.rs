//! The rate of one worker from the times at which its faces came out: pure arithmetic.

/// Faces a second, and the seconds over which they were counted: until `end`. The faces of a batch come at once, and those of the
/// next after a `gap` or more: from the beginning of the first batch to that of the last, all of them but the first were made.
pub(crate) fn steady(times: &[f64], end: f64, gap: f64) -> Option<(f64, f64)> {
    // When each batch began to come, and its faces.
    let mut batches: Vec<(f64, u32)> = Vec::new();
    let mut before = f64::NEG_INFINITY;
    for time in times {
        match batches.last_mut() {
            Some((_, faces)) if time - before < gap => *faces += 1,
            _ => batches.push((*time, 1)),
        }
        before = *time;
    }
    batches.retain(|(begin, _)| *begin <= end);
    let (first, last) = (batches.first()?.0, batches.last()?.0);
    let faces: u32 = batches.iter().skip(1).map(|(_, faces)| *faces).sum();
    (last > first).then(|| (f64::from(faces) / (last - first), last - first))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of four a quarter of a second apart; a batch comes over a tenth of a second.
    fn batches(count: u32) -> Vec<f64> {
        (0..4 * count).map(|face| f64::from(face / 4) * 0.25 + f64::from(face % 4) * 0.025).collect()
    }

    #[test]
    fn a_steady_worker_has_the_rate_of_its_batches() {
        assert_eq!(steady(&batches(9), 100.0, 0.125), Some((16.0, 2.0)));
    }

    #[test]
    fn what_begins_after_the_end_does_not_count_and_what_began_before_it_counts_whole() {
        let mut times = batches(5);
        times.extend([7.0, 9.0]);
        assert_eq!(steady(&times, 1.05, 0.125), Some((16.0, 1.0)));
    }

    #[test]
    fn a_pause_lowers_it() {
        let mut times = batches(1);
        times.extend(batches(2).into_iter().map(|time| time + 1.75));
        assert_eq!(steady(&times, 100.0, 0.125), Some((4.0, 2.0)));
    }

    #[test]
    fn one_batch_has_no_rate() {
        assert_eq!((steady(&batches(1), 100.0, 0.125), steady(&[], 1.0, 0.1)), (None, None));
    }
}
