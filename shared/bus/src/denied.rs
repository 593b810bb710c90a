//! What the server does not permit this process's user. The server only says so beside the connection: the request that was
//! denied never gets an answer, and would look like a server that is slow. What is noted here tells the two apart, and keeps
//! a service that lacks a right from being ready.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Event, ServerError};
use facewire_runtime::{Held, Shutdown};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::Bus;
use crate::error::BusError;

/// Denied publishes that are remembered.
const REMEMBERED: usize = 64;

/// What is denied and still needed is tried again well within this time; after it the right counts as given.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// First tokens of subjects that we publish to of our own accord. Everything else is a producer's reply subject: that one
/// may not be told is the producer's loss.
const OURS: [&str; 9] = ["$JS", "$KV", "crops", "stage", "results", "dead", "jobs", "events", "replies"];

/// What was denied.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Denial {
    Publish(String),
    Subscribe(String),
}

impl Denial {
    /// The server's texts are part of its protocol: `Permissions Violation for Publish to "a.b"`, `… for Publish with Reply
    /// of "a.b"`, `… for Subscription to "a.b"`, the last perhaps with a queue behind.
    fn parse(text: &str) -> Option<Self> {
        let rest = text.trim().strip_prefix("Permissions Violation for ")?;
        let subject = rest.split('"').nth(1)?.to_owned();
        match rest.split_whitespace().next()? {
            "Publish" => Some(Self::Publish(subject)),
            "Subscription" => Some(Self::Subscribe(subject)),
            _ => None,
        }
    }

    fn is_ours(&self) -> bool {
        match self {
            Self::Publish(subject) => OURS.contains(&subject.split('.').next().unwrap_or_default()),
            Self::Subscribe(_) => true,
        }
    }
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Publish(subject) => write!(f, "to publish to {subject}"),
            Self::Subscribe(subject) => write!(f, "to subscribe to {subject}"),
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    /// Newest last.
    publishes: VecDeque<(String, Instant)>,
    /// With the number of their connection: a client asks for a subscription once a connection.
    subscriptions: Vec<(u64, String)>,
    connections: u64,
}

/// What all connections of a process were denied. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Denials {
    seen: Arc<Mutex<Seen>>,
    changed: Arc<watch::Sender<()>>,
}

impl Default for Denials {
    fn default() -> Self {
        Self { seen: Arc::default(), changed: Arc::new(watch::Sender::new(())) }
    }
}

/// What holds, and for how long without another word; for ever where there is no end.
#[derive(Debug)]
struct Current {
    why: Denial,
    until: Option<Instant>,
}

impl Denials {
    /// The number of a new connection.
    pub(crate) fn connection(&self) -> u64 {
        let mut seen = self.lock();
        seen.connections += 1;
        seen.connections
    }

    /// What the client tells of a connection.
    pub(crate) fn hear(&self, connection: u64, event: &Event) {
        match event {
            // It asks for its subscriptions again, or never will.
            Event::Connected | Event::Closed => self.lock().subscriptions.retain(|(of, _)| *of != connection),
            Event::ServerError(ServerError::Other(text)) => match Denial::parse(text) {
                Some(denial) if denial.is_ours() => self.note(connection, denial),
                _ => return,
            },
            _ => return,
        }
        self.changed.send_replace(());
    }

    fn note(&self, connection: u64, denial: Denial) {
        let (mut seen, now) = (self.lock(), Instant::now());
        match denial {
            Denial::Publish(subject) => {
                seen.publishes.retain(|(denied, _)| *denied != subject);
                if seen.publishes.len() >= REMEMBERED {
                    seen.publishes.pop_front();
                }
                seen.publishes.push_back((subject, now));
            }
            Denial::Subscribe(subject) => {
                // Each pull has an inbox of its own: one of a connection stands for all.
                seen.subscriptions.retain(|(of, _)| *of != connection);
                seen.subscriptions.push((connection, subject));
            }
        }
    }

    /// Whether a publish to this subject was denied since then.
    pub(crate) fn publish_since(&self, subject: &str, since: Instant) -> bool {
        self.lock().publishes.iter().any(|(denied, at)| denied == subject && *at >= since)
    }

    /// An error of something that began then: where the server denied something meanwhile, that is why.
    pub(crate) fn explain(&self, since: Instant, error: BusError) -> BusError {
        use BusError::{NotAcknowledged, NotReady, Refused, Unreachable};
        if !matches!(error, Refused { .. } | NotReady { .. } | NotAcknowledged { .. } | Unreachable(_)) {
            return error;
        }
        let denied = self.current(since).filter(|current| match &current.why {
            Denial::Publish(subject) => self.publish_since(subject, since),
            // Denied once, no answer of that connection arrives any more.
            Denial::Subscribe(_) => true,
        });
        denied.map_or(error, |current| BusError::Denied { what: current.why.to_string() })
    }

    /// What is denied at that time.
    fn current(&self, now: Instant) -> Option<Current> {
        let seen = self.lock();
        if let Some((_, subject)) = seen.subscriptions.last() {
            return Some(Current { why: Denial::Subscribe(subject.clone()), until: None });
        }
        let (subject, at) = seen.publishes.back()?;
        let until = *at + FORGOTTEN;
        (now < until).then(|| Current { why: Denial::Publish(subject.clone()), until: Some(until) })
    }

    /// Keeps the service from being ready while something is denied, until the drain.
    async fn hold(&self, service: &'static str, shutdown: &Shutdown) {
        let mut changes = self.changed.subscribe();
        let mut held: Option<(Denial, Held)> = None;
        loop {
            let current = self.current(Instant::now());
            let why = current.as_ref().map(|current| current.why.clone());
            if held.as_ref().map(|(why, _)| why) != why.as_ref() {
                // The next before the last is let go: it is not ready in between.
                let next = why.map(|why| {
                    let text = BusError::Denied { what: why.to_string() }.to_string();
                    (why, shutdown.health().hold(service, &text))
                });
                held = next;
            }
            let until = current.and_then(|current| current.until);
            tokio::select! {
                () = shutdown.draining() => return,
                // The sender lives as long as `self`.
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // What is in it is never left half-changed.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus {
    /// Keeps a service from being ready while its user lacks a right that it needs, and says which. Runs until the drain.
    pub async fn hold_while_denied(&self, service: &'static str, shutdown: &Shutdown) {
        self.denials().hold(service, shutdown).await;
    }

    /// What comes of `work`; where it failed because a right is missing, the error names the right.
    pub(crate) async fn explained<T>(&self, work: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
        let since = Instant::now();
        work.await.map_err(|error| self.denials().explain(since, error))
    }
}

#[cfg(test)]
mod tests {
    use facewire_runtime::State;

    use super::*;

    fn violation(text: &str) -> Event {
        Event::ServerError(ServerError::Other(text.to_owned()))
    }

    #[test]
    fn the_servers_words_are_read() {
        let publish = |subject: &str| Some(Denial::Publish(subject.to_owned()));
        assert_eq!(Denial::parse("Permissions Violation for Publish to \"results.a.b\""), publish("results.a.b"));
        assert_eq!(Denial::parse("Permissions Violation for Publish with Reply of \"$JS.x\""), publish("$JS.x"));
        let subscribe = Some(Denial::Subscribe("_INBOX.a.*".to_owned()));
        assert_eq!(
            Denial::parse("Permissions Violation for Subscription to \"_INBOX.a.*\" using queue \"q\""),
            subscribe
        );
        for other in ["Stale Connection", "Permissions Violation for", "Permissions Violation for Publish to x", ""] {
            assert_eq!(Denial::parse(other), None, "{other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_is_not_ready_while_something_that_it_needs_is_denied() {
        let (denials, shutdown) = (Denials::default(), Shutdown::new(Duration::from_secs(1)));
        let health = shutdown.health().clone();
        health.set("ingest", State::Ready);
        let holding = tokio::spawn({
            let (denials, shutdown) = (denials.clone(), shutdown.clone());
            async move { denials.hold("ingest", &shutdown).await }
        });
        let connection = denials.connection();
        // Time passes only when everything waits.
        let settle = || tokio::time::sleep(Duration::from_millis(1));
        denials.hear(connection, &violation("Permissions Violation for Publish to \"a.producers.inbox\""));
        settle().await;
        assert!(health.is_ready(), "a producer's reply subject is nothing that the service needs");

        denials.hear(connection, &violation("Permissions Violation for Publish to \"stage.quality.office\""));
        settle().await;
        let why = health.held()["ingest"].concat();
        assert!(why.contains("to publish to stage.quality.office") && !health.is_ready(), "{why}");
        tokio::time::sleep(FORGOTTEN).await;
        assert!(health.is_ready(), "what is not denied again is permitted by now");

        denials.hear(connection, &violation("Permissions Violation for Subscription to \"_INBOX.x.*\""));
        tokio::time::sleep(FORGOTTEN * 2).await;
        assert!(!health.is_ready(), "nobody asks for a subscription twice");
        denials.hear(connection + 1, &Event::Connected);
        settle().await;
        assert!(!health.is_ready(), "that is another connection");
        denials.hear(connection, &Event::Connected);
        settle().await;
        assert!(health.is_ready());
        shutdown.drain();
        holding.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_was_denied_meanwhile_explains_an_error() {
        let (denials, began) = (Denials::default(), Instant::now());
        let silent =
            || BusError::NotAcknowledged { subject: "stage.match.a".to_owned(), error: "timed out".to_owned() };
        let denied = |since| matches!(denials.explain(since, silent()), BusError::Denied { .. });
        assert!(!denied(began));
        denials.hear(denials.connection(), &violation("Permissions Violation for Publish to \"stage.match.a\""));
        assert!(denied(began) && denials.publish_since("stage.match.a", began));
        assert!(!denials.publish_since("stage.match.b", began));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!denied(Instant::now()), "it was permitted this time");
        let full = BusError::StreamFull { subject: "stage.match.a".to_owned() };
        assert!(matches!(denials.explain(began, full), BusError::StreamFull { .. }), "that is an answer");
    }
}
