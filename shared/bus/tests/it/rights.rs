//! Users with few rights on a real server: what the server denies is said by name and keeps a service from being ready. That
//! the rights of every service suffice is tested with the whole chain.

use facewire_bus::{Bus, BusError, Message, Options, Right, Rights, UserKey, inbox_prefix};
use facewire_config::Secret;
use facewire_devstack::testing::{TestNats, nats_with};
use facewire_domain::{CollectionId, Stage};
use facewire_runtime::{Shutdown, State};
use futures_util::StreamExt;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::world::{LEASE, PATIENCE, until};

const PRODUCER: &str = "producer-office";

/// A server that admits these users alone, with the streams.
struct Guarded {
    nats: TestNats,
    seeds: TempDir,
}

impl Guarded {
    async fn new(users: &[(&str, &[Right])]) -> Self {
        let seeds = tempfile::tempdir().unwrap();
        let migrate: (&str, &[Right]) = ("migrate", &[Right::Look, Right::Migrate(LEASE)]);
        let admitted = users.iter().chain([&migrate]).map(|(user, rights)| {
            let (key, rights) = (UserKey::generate().unwrap(), Rights::of(user, rights));
            std::fs::write(seeds.path().join(user), key.seed().unwrap().expose()).unwrap();
            let (publish, subscribe) = (json!({ "allow": rights.publish }), json!({ "allow": rights.subscribe }));
            json!({ "nkey": key.public(), "permissions": { "publish": publish, "subscribe": subscribe } })
        });
        let account = json!({ "jetstream": true, "users": admitted.collect::<Vec<_>>() });
        let nats = nats_with(format!("accounts: {}\n", json!({ "FACEWIRE": account }))).await.unwrap();
        let guarded = Self { nats, seeds };
        guarded.bus("migrate").await.migrate_streams(&[], LEASE).await.unwrap();
        guarded
    }

    fn options(&self, user: &str) -> Options {
        Options {
            url: Secret::new(self.nats.url()),
            nkey: Some(self.seeds.path().join(user)),
            inbox_prefix: inbox_prefix(user),
            ..Options::default()
        }
    }

    async fn bus(&self, user: &str) -> Bus {
        Bus::connect(&self.options(user), user).await.unwrap()
    }
}

fn message(subject: &str) -> Message {
    Message { subject: subject.to_owned(), payload: "x".into(), ..Message::default() }
}

fn office() -> CollectionId {
    "office".parse().unwrap()
}

#[tokio::test]
async fn what_a_service_lacks_is_said_and_it_is_not_ready() {
    let guarded = Guarded::new(&[("quality", &[Right::Look, Right::HandOn(Stage::Embed)])]).await;
    let bus = guarded.bus("quality").await;
    let shutdown = Shutdown::new(PATIENCE);
    let health = shutdown.health().clone();
    health.set("quality", State::Ready);
    let holding = tokio::spawn({
        let (bus, shutdown) = (bus.clone(), shutdown.clone());
        async move { bus.hold_while_denied("quality", &shutdown).await }
    });
    bus.publish(message("stage.embed.office")).await.unwrap();
    assert!(health.is_ready());

    // Nobody hears a producer's reply subject: no matter of the service's.
    bus.tell("answers.7".to_owned(), "{}".into()).await.unwrap();
    let denied = bus.publish(message("results.office.door")).await.unwrap_err();
    assert!(matches!(&denied, BusError::Denied { what } if what == "to publish to results.office.door"), "{denied}");
    let why = until("a service that is not ready", async || health.held().remove("quality")).await.concat();
    assert!(why.contains("results.office.door") && !why.contains("answers.7"), "{why}");
    shutdown.drain();
    holding.await.unwrap();
}

#[tokio::test]
async fn an_inbox_of_another_user_is_denied_by_name() {
    let guarded = Guarded::new(&[("ingest", &[Right::Look])]).await;
    let options = Options { inbox_prefix: inbox_prefix("other"), ..guarded.options("ingest") };
    let bus = Bus::connect(&options, "ingest").await.unwrap();
    let denied = bus.check_streams().await.unwrap_err();
    assert!(matches!(&denied, BusError::Denied { what } if what.contains("subscribe to _INBOX_other.")), "{denied}");
    assert!(denied.to_string().contains("nats.inbox_prefix"), "{denied}");
}

#[tokio::test]
async fn a_producer_hears_its_collection_and_replies_to_itself_alone() {
    let users: [(&str, &[Right]); 2] =
        [(PRODUCER, &[Right::Produce(office())]), ("enrich", &[Right::PublishResults, Right::Reply])];
    let guarded = Guarded::new(&users).await;
    let seed = std::fs::read_to_string(guarded.seeds.path().join(PRODUCER)).unwrap();
    let (said, mut errors) = mpsc::unbounded_channel();
    let client = async_nats::ConnectOptions::with_nkey(seed)
        .custom_inbox_prefix(inbox_prefix(PRODUCER))
        .event_callback(move |event| {
            // The test may be over.
            let _ = said.send(event.to_string());
            std::future::ready(())
        })
        .connect(guarded.nats.url())
        .await
        .unwrap();
    let enrich = guarded.bus("enrich").await;
    let mut results = client.subscribe("results.office.*").await.unwrap();
    let mut replies = client.subscribe(format!("replies.{PRODUCER}.a7")).await.unwrap();
    // A flush waits for no answer: once the server has answered this, it has the subscriptions too.
    client.request("crops.office.door", "picture".into()).await.unwrap();
    enrich.publish(message("results.office.door")).await.unwrap();
    enrich.tell(format!("replies.{PRODUCER}.a7"), "{}".into()).await.unwrap();
    for heard in [&mut results, &mut replies] {
        timeout(PATIENCE, heard.next()).await.unwrap().unwrap();
    }
    let producer = guarded.bus(PRODUCER).await;
    producer.publish(message("crops.office.door")).await.unwrap();

    let mut denied = async |what: &str, subject: &str| loop {
        let text = timeout(PATIENCE, errors.recv()).await.unwrap().unwrap();
        if text.contains("Permissions Violation") {
            assert!(text.contains(what) && text.contains(subject), "{subject}: {text}");
            return;
        }
    };
    for subject in ["results.vault.*", "results.>", "replies.gateway.>", "crops.office.*", "_INBOX.>", ">"] {
        let _unheard = client.subscribe(subject).await.unwrap();
        client.flush().await.unwrap();
        denied("Subscription", subject).await;
    }
    for subject in [
        "crops.vault.door",
        "stage.embed.office",
        "results.office.door",
        "jobs.erase",
        "$JS.API.STREAM.INFO.CROPS",
        "$JS.API.STREAM.DELETE.CROPS",
        "$JS.API.STREAM.PURGE.CROPS",
        "$JS.API.CONSUMER.CREATE.RESULTS",
        "$JS.API.CONSUMER.MSG.NEXT.CROPS.ingest",
    ] {
        client.publish(subject, "{}".into()).await.unwrap();
        client.flush().await.unwrap();
        denied("Publish", subject).await;
    }
}

#[tokio::test]
async fn a_user_whom_the_server_does_not_know_is_told_so() {
    let guarded = Guarded::new(&[]).await;
    let stranger = UserKey::generate().unwrap();
    std::fs::write(guarded.seeds.path().join("stranger"), stranger.seed().unwrap().expose()).unwrap();
    let nobody = Options { nkey: None, ..guarded.options("migrate") };
    for options in [guarded.options("stranger"), nobody] {
        let refused = Bus::connect(&options, "stranger").await.unwrap_err();
        assert!(matches!(refused, BusError::NotAdmitted(_)), "{refused}");
    }
}

#[tokio::test]
async fn a_user_in_the_url_is_who_connects() {
    let password = "p@ss word";
    let more = json!({ "users": [{ "user": "ada", "password": password }] });
    let server = nats_with(format!("authorization: {more}\n")).await.unwrap();
    let at = |who: &str| {
        let url = server.url().replace("nats://", &format!("nats://{who}"));
        Options { url: Secret::new(url), ..Options::default() }
    };
    Bus::connect(&at("ada:p%40ss%20word@"), "ada").await.unwrap();
    for who in ["ada:wrong@", "bela:p%40ss%20word@", ""] {
        let refused = Bus::connect(&at(who), "ada").await.unwrap_err();
        assert!(matches!(refused, BusError::NotAdmitted(_)) && !refused.to_string().contains("wrong"), "{refused}");
    }
}
