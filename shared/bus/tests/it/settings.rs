//! Settings: written by one, read by many, lost with the server's data and told again.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use facewire_bus::{Bus, BusError};
use facewire_config::Secret;
use facewire_devstack::testing::nats;

use super::world::LEASE;

/// What a follower was told: `-` for nothing.
type Heard = Arc<Mutex<Vec<String>>>;

fn note(heard: &Heard) -> impl FnMut(Option<&[u8]>) -> Result<(), String> + Send + use<> {
    let heard = Arc::clone(heard);
    move |value| {
        let text = value.map_or("-".to_owned(), |value| String::from_utf8_lossy(value).into_owned());
        let wrong = text.contains("wrong");
        heard.lock().unwrap().push(text);
        if wrong { Err("it is wrong".to_owned()) } else { Ok(()) }
    }
}

#[tokio::test]
async fn a_follower_hears_what_is_there_and_each_change_once() {
    let server = nats().await.unwrap();
    let options = facewire_bus::Options { url: Secret::new(server.url()), ..Default::default() };
    let bus = Bus::connect(&options, "settings").await.unwrap();
    bus.migrate_streams(&[], LEASE).await.unwrap();
    let settings = bus.settings().await.unwrap();
    assert_eq!(settings.get("gates.a").await.unwrap(), None);

    let heard = Heard::default();
    let mut follower = bus.follow("a test", "gates.a".to_owned(), note(&heard));
    for value in ["one", "one", "wrong", "two"] {
        follower.look().await;
        follower.look().await;
        settings.put("gates.a", Bytes::from_static(value.as_bytes())).await.unwrap();
        settings.put("gates.b", Bytes::from_static(b"another's")).await.unwrap();
    }
    follower.look().await;
    assert_eq!(*heard.lock().unwrap(), ["-", "one", "wrong", "two"]);
    assert_eq!(settings.get("gates.a").await.unwrap().unwrap(), "two");

    // A second process sees the same, and what is too large is refused before it is sent.
    let other = Bus::connect(&options, "another process").await.unwrap();
    assert_eq!(other.settings().await.unwrap().get("gates.b").await.unwrap().unwrap(), "another's");
    let error = settings.put("gates.a", vec![0; 600 << 10].into()).await.unwrap_err();
    assert!(matches!(error, BusError::TooLarge { .. }), "{error}");
    assert_eq!(settings.get("gates.a").await.unwrap().unwrap(), "two");
}
