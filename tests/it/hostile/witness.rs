//! Who saw a service fail: a subscriber that counts what supervision says. It sees the events of one thread, so that
//! tests beside it do not count: its test runs on a runtime of one thread.

use std::sync::{Arc, Mutex};

use facewire_telemetry::events::{FailureKind, ServiceFailed, ServiceStarted};
use tracing::field::{Field, Visit};
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// What was said since it began to listen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) started: u64,
    /// A line each: service and error.
    pub(crate) failed: Vec<String>,
    /// Warnings by their words: consumers made anew, publishes tried again, stores waited for.
    pub(crate) warnings: Vec<String>,
}

/// Listens until it is dropped.
pub(crate) struct Witness {
    seen: Arc<Mutex<Seen>>,
    _guard: DefaultGuard,
    /// With one subscriber alone, tracing asks only the thread that first meets an event whether anybody wants it: a
    /// test beside this one would say no for all. With two it asks each subscriber.
    _another: Dispatch,
}

impl Witness {
    pub(crate) fn listen() -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let subscriber = tracing_subscriber::registry().with(Listener(Arc::clone(&seen)));
        let guard = tracing::subscriber::set_default(subscriber);
        Self { seen, _guard: guard, _another: Dispatch::new(NoSubscriber::new()) }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

struct Listener(Arc<Mutex<Seen>>);

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let ours = event.metadata().target().starts_with("facewire");
        if !ours || *event.metadata().level() > tracing::Level::INFO {
            return;
        }
        let mut words = Words::default();
        event.record(&mut words);
        let mut seen = self.0.lock().unwrap();
        match words.message.as_str() {
            "service started" => seen.started += 1,
            "service failed" => seen.failed.push(words.rest),
            _ if *event.metadata().level() == tracing::Level::WARN => {
                seen.warnings.push(format!("{}{}", words.message, words.rest));
            }
            _ => {}
        }
    }
}

#[derive(Default)]
struct Words {
    message: String,
    rest: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.rest.push_str(&format!(" {}={value:?}", field.name()));
        }
    }
}

#[test]
fn a_failure_is_seen_though_another_thread_met_the_event_first() {
    let witness = Witness::listen();
    let kind = FailureKind::Error;
    std::thread::spawn(|| ServiceStarted { service: "embed" }.emit()).join().unwrap();
    ServiceFailed { service: "quality", kind, failures: 1, error: "down" }.emit();
    ServiceStarted { service: "quality" }.emit();
    let seen = witness.seen();
    assert_eq!((seen.started, seen.failed.len()), (1, 1));
    assert!(seen.failed[0].contains("quality") && seen.failed[0].contains("down"), "{seen:?}");
}
