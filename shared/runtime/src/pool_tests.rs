//! Pools whose state breaks, stays away, hangs, or never breaks.

use super::*;
use crate::health::{Health, State};
use crate::inbox::inbox;
use crate::pipeline::PipelineError;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

const QUICK: Backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(2) };
const HOUR: Backoff = Backoff { first: Duration::from_secs(3600), max: Duration::from_secs(3600) };

#[derive(Debug, PartialEq)]
enum Said {
    Done(u32),
    GivenBack(u32, GivenBack),
}

/// Whether attempt `n` (from 0) at opening or at an item fails.
type Fails = fn(attempt: u32, item: Option<u32>) -> bool;

/// Fails as it is told, and says what became of each item.
#[derive(Clone)]
struct Double {
    fails: Fails,
    opened: Arc<AtomicU32>,
    attempts: Arc<AtomicU32>,
    blocked: Arc<AtomicU32>,
    shutdown: Shutdown,
    said: mpsc::Sender<Said>,
}

impl Worker for Double {
    type Item = u32;
    type State = ();
    type Output = u32;

    fn open(&self, _: usize) -> Result<(), ActorError> {
        let attempt = self.opened.fetch_add(1, Ordering::Relaxed);
        if self.shutdown.health().states()["s"] == State::Blocked {
            self.blocked.fetch_add(1, Ordering::Relaxed);
        }
        if (self.fails)(attempt, None) { Err("no device".into()) } else { Ok(()) }
    }

    fn work(&self, (): &mut (), item: u32) -> Worked<u32, u32> {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        if (self.fails)(attempt, Some(item)) {
            Worked::Broken { item, error: "the device fell off the bus".into() }
        } else {
            Worked::Done(item)
        }
    }

    fn hand_on(&self, item: u32) -> Result<(), ActorError> {
        if item == ITEMS - 1 {
            self.shutdown.drain();
        }
        Ok(self.said.send(Said::Done(item))?)
    }

    fn give_back(&self, item: u32, why: GivenBack) -> Result<(), ActorError> {
        Ok(self.said.send(Said::GivenBack(item, why))?)
    }
}

const ITEMS: u32 = 6;

struct Run {
    double: Double,
    shutdown: Shutdown,
    pipeline: Pipeline,
    said: mpsc::Receiver<Said>,
}

/// A ready service whose source sends some items and waits for the drain, which begins when the last one is done.
fn service(backoff: Backoff, fails: Fails) -> Run {
    service_within(Duration::from_secs(60), backoff, fails)
}

/// The same with so long for a drain.
fn service_within(grace: Duration, backoff: Backoff, fails: Fails) -> Run {
    let shutdown = Shutdown::new(grace);
    shutdown.health().set("s", State::Ready);
    let mut pipeline = Pipeline::within("s", &shutdown).reopen_after(backoff);
    let (out, items) = inbox("a->pool", NonZeroUsize::MIN);
    let (say, said) = mpsc::channel();
    let double = Double {
        fails,
        opened: Arc::default(),
        attempts: Arc::default(),
        blocked: Arc::default(),
        shutdown: shutdown.clone(),
        said: say,
    };
    pipeline.spawn_workers("pool", 1, items, double.clone()).unwrap();
    let drain = pipeline.shutdown().clone();
    pipeline.spawn("a", async move {
        for item in 0..ITEMS {
            out.send(item).await?;
        }
        drain.draining().await;
        Ok(())
    });
    Run { double, shutdown, pipeline, said }
}

impl Run {
    /// How the pipeline ended, and what became of each item.
    async fn ends(self) -> (Result<(), PipelineError>, Vec<Said>) {
        let ended = self.pipeline.run(&self.shutdown).await;
        drop(self.double);
        (ended, self.said.iter().collect())
    }
}

/// Waits until this alone keeps the service from being ready.
async fn held_by(health: &Health, why: &str) {
    while health.held().get("s").is_none_or(|held| *held != [why]) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_service_is_ready_once_its_first_state_is_open() {
    let (shutdown, pipeline, never) = hangs(Place::Open).await;
    let health = shutdown.health().clone();
    assert_eq!(health.states()["s"], State::Blocked);
    assert_eq!(health.held()["s"], ["no session is open yet"]);
    let running = tokio::spawn(async move { pipeline.run(&shutdown).await });
    drop(never);
    running.await.unwrap().unwrap();
    assert!(health.is_ready());
}

#[tokio::test]
async fn a_broken_state_is_opened_anew_and_every_item_is_done_once() {
    // Item 3 breaks two states, and after each break one opening fails too.
    let run = service(QUICK, |attempt, item| item.map_or(attempt == 1, |item| item == 3 && attempt < 5));
    let (opened, blocked) = (Arc::clone(&run.double.opened), Arc::clone(&run.double.blocked));
    let health = run.shutdown.health().clone();
    let (ended, said) = run.ends().await;
    ended.unwrap();
    assert_eq!(said, (0..ITEMS).map(Said::Done).collect::<Vec<_>>());
    let counted = [opened, blocked].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counted, [4, 4], "openings, and those of them while the service was not ready");
    assert!(health.is_ready(), "all is well again");
}

#[tokio::test]
async fn a_device_that_stays_away_gives_every_item_back() {
    let run = service(QUICK, |attempt, item| item.map_or(attempt > 0, |item| item == 2));
    let health = run.shutdown.health().clone();
    let (ended, said) = run.ends().await;
    assert_eq!(ended.unwrap_err().to_string(), "actor pool failed: no device");
    let back = (2..ITEMS).map(|item| Said::GivenBack(item, GivenBack::Innocent));
    assert_eq!(said, [Said::Done(0), Said::Done(1)].into_iter().chain(back).collect::<Vec<_>>());
    assert!(health.is_ready(), "what comes next is the supervision's to say");
}

#[tokio::test]
async fn a_device_that_was_never_there_is_found_before_the_first_item() {
    let run = service(QUICK, |_, item| item.is_none());
    let (opened, attempts) = (Arc::clone(&run.double.opened), Arc::clone(&run.double.attempts));
    let (ended, said) = run.ends().await;
    assert!(matches!(ended, Err(PipelineError::Failed { actor: "pool", .. })));
    assert_eq!(said, (0..ITEMS).map(|item| Said::GivenBack(item, GivenBack::Innocent)).collect::<Vec<_>>());
    assert_eq!([opened, attempts].map(|count| count.load(Ordering::Relaxed)), [REOPENS + 1, 0]);
}

#[tokio::test]
async fn an_item_that_breaks_every_state_is_suspect_and_no_other_is() {
    let (ended, said) = service(QUICK, |_, item| item == Some(2)).ends().await;
    assert_eq!(ended.unwrap_err().to_string(), "actor pool failed: the device fell off the bus");
    let back = (3..ITEMS).map(|item| Said::GivenBack(item, GivenBack::Innocent));
    let first = [Said::Done(0), Said::Done(1), Said::GivenBack(2, GivenBack::Suspect)];
    assert_eq!(said, first.into_iter().chain(back).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_drain_ends_the_wait_before_the_next_opening() {
    let run = service(HOUR, |_, item| item == Some(0));
    let (shutdown, health) = (run.shutdown.clone(), run.shutdown.health().clone());
    let ending = tokio::spawn(run.ends());
    held_by(&health, "the device fell off the bus").await;
    shutdown.drain();
    let (ended, said) = ending.await.unwrap();
    assert!(matches!(ended, Err(PipelineError::Failed { .. })));
    assert_eq!(said, (0..ITEMS).map(|item| Said::GivenBack(item, GivenBack::Innocent)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_pipeline_that_is_dropped_wakes_the_thread_that_waits() {
    let Run { double, shutdown, pipeline, said } = service(HOUR, |_, item| item == Some(0));
    drop(double);
    let running = tokio::spawn(async move { pipeline.run(&shutdown).await });
    // The channel closes when the thread ends.
    let heard = tokio::task::spawn_blocking(move || said.iter().count());
    tokio::task::yield_now().await;
    running.abort();
    heard.await.unwrap();
}

#[tokio::test]
async fn a_drain_that_a_broken_device_began_ends_though_an_actor_does_not() {
    let mut run = service_within(Duration::from_millis(50), QUICK, |_, item| item.is_none());
    run.pipeline.spawn("never", std::future::pending());
    let error = run.pipeline.run(&run.shutdown).await.unwrap_err();
    assert_eq!(error.to_string(), "actor pool failed: no device");
}

/// Hangs where it is told to, until the sender of its channel goes.
#[derive(Clone)]
struct Hangs {
    place: Place,
    until: Arc<Mutex<mpsc::Receiver<()>>>,
    opened: Arc<AtomicU32>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    /// The first opening.
    Open,
    /// The second one, after one that failed.
    OpenAgain,
    /// The end of a state that broke.
    Broken,
    /// The end of a state when there is no more work.
    End,
}

impl Hangs {
    fn hang(&self) {
        let _ = self.until.lock().unwrap().recv();
    }
}

/// Its end may hang.
struct Ends(Option<Hangs>);

impl Drop for Ends {
    fn drop(&mut self) {
        if let Some(hangs) = &self.0 {
            hangs.hang();
        }
    }
}

impl Worker for Hangs {
    type Item = ();
    type State = Ends;
    type Output = ();

    fn open(&self, _: usize) -> Result<Ends, ActorError> {
        match (self.place, self.opened.fetch_add(1, Ordering::Relaxed)) {
            (Place::Open, 0) | (Place::OpenAgain, 1) => self.hang(),
            (Place::OpenAgain, 0) => return Err("no device".into()),
            _ => {}
        }
        Ok(Ends(matches!(self.place, Place::Broken | Place::End).then(|| self.clone())))
    }

    fn work(&self, _: &mut Ends, (): ()) -> Worked<(), ()> {
        match self.place {
            Place::Broken => Worked::Broken { item: (), error: "the device fell off the bus".into() },
            _ => Worked::Done(()),
        }
    }

    fn hand_on(&self, (): ()) -> Result<(), ActorError> {
        Ok(())
    }

    fn give_back(&self, (): (), _: GivenBack) -> Result<(), ActorError> {
        Ok(())
    }
}

/// A ready service with one item, then no more, whose worker hangs until the sender goes.
async fn hangs(place: Place) -> (Shutdown, Pipeline, mpsc::Sender<()>) {
    let (never, until) = mpsc::channel();
    let shutdown = Shutdown::new(Duration::from_secs(60));
    shutdown.health().set("s", State::Ready);
    let mut pipeline = Pipeline::within("s", &shutdown).reopen_after(QUICK);
    let (out, items) = inbox("a->pool", NonZeroUsize::MIN);
    out.send(()).await.unwrap();
    let worker = Hangs { place, until: Arc::new(Mutex::new(until)), opened: Arc::default() };
    pipeline.spawn_workers("pool", 1, items, worker).unwrap();
    (shutdown, pipeline, never)
}

#[tokio::test]
async fn a_session_that_hangs_while_it_is_opened_or_closed_is_seen() {
    for place in [Place::Open, Place::OpenAgain, Place::Broken, Place::End] {
        let (shutdown, pipeline, never) = hangs(place).await;
        let error = pipeline.hang_after(Duration::from_millis(50)).run(&shutdown).await.unwrap_err();
        assert!(matches!(error, PipelineError::Hung { actor: "pool", .. }), "{place:?}: {error}");
        assert!(shutdown.health().is_ready(), "{place:?}: the thread of a pipeline that is gone holds nobody back");
        drop(never);
    }
}

#[tokio::test]
async fn a_session_that_breaks_is_told_before_it_is_closed() {
    let (shutdown, pipeline, never) = hangs(Place::Broken).await;
    let health = shutdown.health().clone();
    let running = tokio::spawn(async move { pipeline.run(&shutdown).await });
    held_by(&health, "the device fell off the bus").await;
    drop(never);
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "actor pool failed: the device fell off the bus");
    assert!(health.is_ready());
}

#[tokio::test]
async fn a_pool_shares_one_inbox() {
    let (out, inbox) = inbox("a->pool", NonZeroUsize::MIN);
    let (seen, heard) = mpsc::channel();
    let mut pipeline = Pipeline::new();
    pipeline.spawn_pool("pool", 3, inbox, |item| item, move |item: i32| Ok(seen.send(item)?)).unwrap();
    pipeline.spawn("a", async move {
        for item in 0..100 {
            out.send(item).await?;
        }
        Ok(())
    });
    pipeline.run(&Shutdown::new(Duration::from_secs(60))).await.unwrap();
    let mut all: Vec<i32> = heard.iter().collect();
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_thread_that_hangs_is_seen_but_not_one_that_waits_for_room() {
    // What the first item's own work may take on a machine under load.
    const LIMIT: Duration = Duration::from_secs(60);
    let (out, items) = inbox("a->pool", NonZeroUsize::MIN);
    let (never, hung) = mpsc::channel::<()>();
    let hung = Mutex::new(hung);
    let hung = Arc::new(hung);
    let mut pipeline = Pipeline::new().hang_after(LIMIT);
    // The first item waits for room long past the limit; the second hangs.
    let work = move |item: u32| {
        if item == 2 {
            let _ = hung.lock().unwrap().recv();
        }
        item
    };
    let (room, full) = mpsc::sync_channel::<u32>(0);
    let (waits, mut waiting) = tokio::sync::mpsc::unbounded_channel();
    let hand_on = move |item: u32| -> Result<(), ActorError> {
        waits.send(())?;
        Ok(room.send(item)?)
    };
    pipeline.spawn_pool("pool", 1, items, work, hand_on).unwrap();
    let (waited, was) = tokio::sync::oneshot::channel();
    pipeline.spawn("a", async move {
        out.send(1).await?;
        assert_eq!(waiting.recv().await, Some(()));
        // Nothing is worked on from here: the clock of the runtime leaps from one look for what hangs to the next.
        tokio::time::pause();
        tokio::time::sleep(10 * LIMIT).await;
        let _ = waited.send(full.recv());
        out.send(2).await?;
        std::future::pending().await
    });
    let error = pipeline.run(&Shutdown::new(Duration::from_secs(60))).await.unwrap_err();
    assert!(matches!(error, PipelineError::Hung { actor: "pool", .. }), "{error}");
    assert_eq!(was.await.unwrap(), Ok(1));
    drop(never);
}
