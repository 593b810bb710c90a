//! Pools: equal threads on one inbox, for work that blocks (decoding, hashing, models). A thread whose state breaks, such
//! as a session on a device, opens another and tries the same item again. Where that does not help, the pipeline stops
//! pulling, gives back everything that it holds, and ends.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use facewire_telemetry::events::{Busy, PoolThread, WorkerBroken};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::health::Held;
use crate::inbox::Inbox;
use crate::pipeline::{ActorError, Pipeline};
use crate::retry::Backoff;
use crate::shutdown::Shutdown;
use crate::watch::Watch;

/// How often a broken state is opened anew for one item.
pub const REOPENS: u32 = 3;

/// The pauses before a state is opened anew: 0.5, 1 and 2 seconds.
pub(crate) const REOPEN_BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(5) };

/// What the threads of a pool do. Each thread has a clone.
pub trait Worker: Clone + Send + 'static {
    /// What the inbox holds.
    type Item: Send + 'static;
    /// A thread's own: made, used and dropped on that thread, and watched for hanging each time.
    type State;
    /// What comes of an item.
    type Output;

    /// Makes a state that works: what can be tried without an item is tried here. Watched for hanging. `thread` is the thread's
    /// number in its pool, from 0.
    fn open(&self, thread: usize) -> Result<Self::State, ActorError>;

    /// Works on an item. Watched for hanging.
    fn work(&self, state: &mut Self::State, item: Self::Item) -> Worked<Self::Output, Self::Item>;

    /// Hands on what came of an item; may wait for room as long as it takes.
    fn hand_on(&self, output: Self::Output) -> Result<(), ActorError>;

    /// Gives back an item that was not worked on; may wait for room as long as it takes.
    fn give_back(&self, item: Self::Item, why: GivenBack) -> Result<(), ActorError>;
}

/// What came of an attempt at an item.
#[derive(Debug)]
pub enum Worked<R, T> {
    /// It is done.
    Done(R),
    /// The state cannot be used any more. The item is as it was.
    Broken {
        /// The same item.
        item: T,
        /// What was seen.
        error: ActorError,
    },
}

/// Why an item is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenBack {
    /// Nothing speaks against it: no state could be opened. It must not use up a delivery attempt.
    Innocent,
    /// It broke every state that was opened for it, although each could be opened: it may be the cause. It uses up a
    /// delivery attempt, so that an item that breaks every worker comes to an end.
    Suspect,
}

/// The first break that reopening did not cure. Shared by a pipeline's pools.
#[derive(Debug, Default)]
pub(crate) struct Break(Mutex<Option<(&'static str, ActorError)>>);

impl Break {
    fn is_set(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn set(&self, actor: &'static str, error: ActorError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((actor, error));
    }

    pub(crate) fn take(&self) -> Option<(&'static str, ActorError)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What one thread, or a whole pool, keeps its service from being ready with. The pipeline has it too, and ends it when it
/// goes: a thread that hangs drops nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hold(Arc<Mutex<Slot>>);

#[derive(Debug, Default)]
struct Slot {
    held: Option<Held>,
    ended: bool,
}

impl Hold {
    fn begin(&self, hold: impl FnOnce() -> Held) {
        let mut slot = self.slot();
        if slot.held.is_none() && !slot.ended {
            slot.held = Some(hold());
        }
    }

    fn release(&self) {
        self.slot().held = None;
    }

    /// For good, as what it waited for has come.
    fn come(&self) {
        let held = std::mem::replace(&mut *self.slot(), Slot { held: None, ended: true }).held;
        if let Some(held) = held {
            held.come();
        }
    }

    /// For good: what a thread sees after its pipeline is nobody's trouble.
    pub(crate) fn end(&self) {
        *self.slot() = Slot { held: None, ended: true };
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipeline {
    /// Runs a pool of equal threads on one inbox. The service is not ready before one of them has opened its state.
    pub fn spawn_workers<W: Worker>(
        &mut self,
        actor: &'static str,
        threads: usize,
        inbox: Inbox<W::Item>,
        worker: W,
    ) -> Result<(), ActorError> {
        let inbox = Arc::new(Mutex::new(inbox));
        let (service, unopened) = (self.service(), self.hold());
        unopened.begin(|| self.shutdown().health().hold_start(service, "no session is open yet"));
        for number in 0..threads.max(1) {
            let thread = Thread {
                service: self.service(),
                actor,
                number,
                worker: worker.clone(),
                inbox: Arc::clone(&inbox),
                watch: self.watch(actor),
                hold: self.hold(),
                unopened: unopened.clone(),
                broken: self.broken(),
                opened: self.opened().clone(),
                shutdown: self.shutdown().clone(),
                backoff: self.reopen_backoff(),
                timer: Handle::try_current()?,
            };
            self.spawn_thread(actor, move || thread.run())?;
        }
        Ok(())
    }

    /// Runs a pool of equal threads that have no state, so that nothing can break. `work` is watched for hanging;
    /// `hand_on` may wait for room as long as it takes.
    pub fn spawn_pool<T, R>(
        &mut self,
        actor: &'static str,
        threads: usize,
        inbox: Inbox<T>,
        work: impl Fn(T) -> R + Clone + Send + 'static,
        hand_on: impl Fn(R) -> Result<(), ActorError> + Clone + Send + 'static,
    ) -> Result<(), ActorError>
    where
        T: Send + 'static,
        R: 'static,
    {
        self.spawn_workers(actor, threads, inbox, Stateless { work, hand_on, types: PhantomData })
    }
}

struct Stateless<F, H, T, R> {
    work: F,
    hand_on: H,
    types: PhantomData<fn(T) -> R>,
}

impl<F: Clone, H: Clone, T, R> Clone for Stateless<F, H, T, R> {
    fn clone(&self) -> Self {
        Self { work: self.work.clone(), hand_on: self.hand_on.clone(), types: PhantomData }
    }
}

impl<F, H, T, R> Worker for Stateless<F, H, T, R>
where
    F: Fn(T) -> R + Clone + Send + 'static,
    H: Fn(R) -> Result<(), ActorError> + Clone + Send + 'static,
    T: Send + 'static,
    R: 'static,
{
    type Item = T;
    type State = ();
    type Output = R;

    fn open(&self, _: usize) -> Result<(), ActorError> {
        Ok(())
    }

    fn work(&self, (): &mut (), item: T) -> Worked<R, T> {
        Worked::Done((self.work)(item))
    }

    fn hand_on(&self, output: R) -> Result<(), ActorError> {
        (self.hand_on)(output)
    }

    /// Only where another pool of the pipeline broke: the item is done as ever.
    fn give_back(&self, item: T, _: GivenBack) -> Result<(), ActorError> {
        (self.hand_on)((self.work)(item))
    }
}

struct Thread<W: Worker> {
    service: &'static str,
    actor: &'static str,
    /// In its pool, from 0.
    number: usize,
    worker: W,
    inbox: Arc<Mutex<Inbox<W::Item>>>,
    watch: Watch,
    /// While there are failures in a row, the service is not ready.
    hold: Hold,
    /// Until a thread of the pool has opened its first state, nor is it.
    unopened: Hold,
    broken: Arc<Break>,
    opened: CancellationToken,
    /// The pipeline's own.
    shutdown: Shutdown,
    /// Between a break and the next opening.
    backoff: Backoff,
    /// Sleeps for a thread that must wake up when the shutdown begins.
    timer: Handle,
}

impl<W: Worker> Thread<W> {
    fn run(self) -> Result<(), ActorError> {
        // Before the first item, so that a device that is away is found with nothing in hand.
        let mut state = self.first_state();
        let _lives = PoolThread::begin(self.actor);
        let done = std::iter::from_fn(|| self.next()).try_for_each(|item| self.process(&mut state, item));
        self.close(state);
        done
    }

    /// Whoever waits holds the lock: the others would only wait behind it for the next item anyway.
    fn next(&self) -> Option<W::Item> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
    }

    /// `None` where no state can be opened: then all items are given back.
    fn first_state(&self) -> Option<W::State> {
        let mut failures = 0;
        while !self.broken.is_set() {
            match self.open() {
                Ok(state) => {
                    self.hold.release();
                    self.unopened.come();
                    self.opened.cancel();
                    return Some(state);
                }
                Err(error) => {
                    self.counts(&mut failures, &error);
                    self.gives_up(failures, error);
                }
            }
        }
        None
    }

    /// One item to its end: done and handed on, or given back.
    fn process(&self, state: &mut Option<W::State>, mut item: W::Item) -> Result<(), ActorError> {
        let mut failures = 0;
        while !self.broken.is_set() {
            let (error, why, broken) = match state.take().map_or_else(|| self.open(), Ok) {
                Err(error) => (error, GivenBack::Innocent, None),
                Ok(mut opened) => match self.work(&mut opened, item) {
                    Worked::Done(output) => {
                        *state = Some(opened);
                        self.hold.release();
                        return self.worker.hand_on(output);
                    }
                    Worked::Broken { item: same, error } => {
                        item = same;
                        (error, GivenBack::Suspect, Some(opened))
                    }
                },
            };
            self.counts(&mut failures, &error);
            // What broke may hang here too: by now it is told that it broke.
            self.close(broken);
            if self.gives_up(failures, error) {
                return self.worker.give_back(item, why);
            }
        }
        self.worker.give_back(item, GivenBack::Innocent)
    }

    fn open(&self) -> Result<W::State, ActorError> {
        self.watch.works();
        let opened = self.worker.open(self.number);
        self.watch.rests();
        opened
    }

    fn work(&self, state: &mut W::State, item: W::Item) -> Worked<W::Output, W::Item> {
        self.watch.works();
        let counted = Busy::begin(self.actor);
        let worked = self.worker.work(state, item);
        drop(counted);
        self.watch.rests();
        worked
    }

    fn close(&self, state: Option<W::State>) {
        self.watch.works();
        drop(state);
        self.watch.rests();
    }

    /// Counts a failure in a row; the service is not ready from the first one on.
    fn counts(&self, failures: &mut u32, error: &ActorError) {
        *failures += 1;
        let (service, text) = (self.service, error.to_string());
        WorkerBroken { service, pool: self.actor, failures: *failures, error: &text }.emit();
        self.hold.begin(|| self.shutdown.health().hold(service, &text));
    }

    /// Waits until it is time to try again after so many failures. `true` after too many: then the pipeline drains, and ends by
    /// this error; until then the service stays as it is, not ready. A drain that begins meanwhile ends the wait and all tries.
    fn gives_up(&self, failures: u32, error: ActorError) -> bool {
        let gives_up = failures > REOPENS;
        if gives_up || !self.pauses(self.backoff.pause(failures - 1)) {
            self.broken.set(self.actor, error);
            self.shutdown.drain();
        }
        gives_up
    }

    /// `false` where a drain ended the pause.
    fn pauses(&self, pause: Duration) -> bool {
        self.timer.block_on(async {
            tokio::select! {
                () = self.shutdown.draining() => false,
                () = tokio::time::sleep(pause) => true,
            }
        })
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
