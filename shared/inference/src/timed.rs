//! How fast sessions are that run at the same time, for benchmarks. What they run is the caller's.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Runs before a session is timed: the first ones of a GPU choose their kernels and reserve memory.
const WARM_UP: usize = 3;

/// Opens and warms so many sessions, each on a thread of its own, where a GPU records its runs; then runs all of them for at least
/// so long. What `run` says that it did in a second, of all together, and the longest time of one.
///
/// # Errors
/// The first of `open` and `run`. A panic of theirs goes on.
pub fn timed<S, E: Send>(
    sessions: usize,
    min: Duration,
    open: impl Fn() -> Result<S, E> + Sync,
    run: impl Fn(&mut S) -> Result<usize, E> + Sync,
) -> Result<(f64, Duration), E> {
    let ready = Barrier::new(sessions);
    let warm = || -> Result<S, E> {
        let mut session = open()?;
        (0..WARM_UP).try_for_each(|_| run(&mut session).map(drop))?;
        Ok(session)
    };
    let one = || {
        let opened = catch_unwind(AssertUnwindSafe(warm));
        // Also where it could not be opened: the others wait.
        ready.wait();
        let mut session = opened.unwrap_or_else(|panic| resume_unwind(panic))?;
        let (started, mut done) = (Instant::now(), 0);
        while started.elapsed() < min {
            done += run(&mut session)?;
        }
        let took = started.elapsed();
        Ok((done as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE), took))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..sessions).map(|_| scope.spawn(one)).collect();
        let done = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        done.collect::<Result<Vec<(f64, Duration)>, E>>()
    })
    .map(|done| (done.iter().map(|(rate, _)| rate).sum(), done.iter().map(|(_, took)| *took).max().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_are_open_before_one_is_timed_and_what_they_do_is_added() {
        let (opened, runs) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let open = || Ok::<usize, ()>(opened.fetch_add(1, Ordering::SeqCst));
        let run = |session: &mut usize| {
            let run = runs.fetch_add(1, Ordering::SeqCst);
            assert!(run < 2 * WARM_UP || opened.load(Ordering::SeqCst) == 2, "{session}");
            Ok(5)
        };
        let (rate, took) = timed(2, Duration::from_millis(20), open, run).unwrap();
        let timed = runs.load(Ordering::SeqCst) - 2 * WARM_UP;
        assert!(took >= Duration::from_millis(20) && rate > 0.0);
        // Of each its own time: no longer than the longest.
        assert!(rate >= 0.999 * 5.0 * timed as f64 / took.as_secs_f64(), "{rate} {timed} {took:?}");
    }

    #[test]
    fn a_session_that_cannot_be_opened_keeps_nobody_waiting() {
        let opened = AtomicUsize::new(0);
        let second = || match opened.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(()),
            _ => Err("no room"),
        };
        assert_eq!(timed(2, Duration::ZERO, second, |()| Ok(1)), Err("no room"));
        let panics = || -> Result<(), ()> { panic!("on purpose") };
        assert!(catch_unwind(|| timed(2, Duration::ZERO, panics, |()| Ok(1))).is_err());
    }
}
