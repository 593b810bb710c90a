//! What one service tells the others while they run: a value under a key, in a JetStream key-value bucket. The truth
//! lies elsewhere; what is lost here is told again.

use std::time::Duration;

use async_nats::jetstream::kv;
use bytes::Bytes;
use facewire_runtime::{ActorError, Shutdown};
use facewire_telemetry::events;

use crate::client::Bus;
use crate::error::{BusError, refused};
use crate::layout::{self, MAX_SETTING};

/// Between two looks at a value.
const EVERY: Duration = Duration::from_secs(5);

/// Values by key.
#[derive(Debug, Clone)]
pub struct Settings {
    store: kv::Store,
}

impl Bus {
    /// The bucket of all settings.
    ///
    /// # Errors
    /// [`BusError::NotMigrated`]; [`BusError::Denied`]; [`BusError::NotReady`], [`BusError::Refused`].
    pub async fn settings(&self) -> Result<Settings, BusError> {
        let store = self.explained(self.bucket(layout::settings(self.options()))).await?;
        Ok(Settings { store })
    }

    /// Somebody who wants to know what is under a key: `apply` hears it at first and whenever it is another (`None`: nothing
    /// is there), and says what is wrong with it.
    pub fn follow<F>(&self, service: &'static str, key: String, apply: F) -> Follower<F>
    where
        F: FnMut(Option<&[u8]>) -> Result<(), String> + Send,
    {
        Follower { bus: self.clone(), service, key, apply, settings: None, seen: None, failures: 0 }
    }
}

impl Settings {
    /// Writes a value.
    pub async fn put(&self, key: &str, value: Bytes) -> Result<(), BusError> {
        let bytes = value.len();
        if bytes > MAX_SETTING {
            return Err(BusError::TooLarge { subject: format!("the setting {key}"), bytes });
        }
        self.store.put(key, value).await.map(|_| ()).map_err(|e| refused("the settings (put)", e))
    }

    /// Reads a value; `None`: there is none.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, BusError> {
        self.store.get(key).await.map_err(|e| refused("the settings (get)", e))
    }
}

/// Follows one key.
#[derive(Debug)]
pub struct Follower<F> {
    bus: Bus,
    service: &'static str,
    key: String,
    apply: F,
    /// `None`: the bucket is to be opened, for the first time or anew.
    settings: Option<Settings>,
    /// What was applied or refused last.
    seen: Option<Option<Bytes>>,
    failures: u32,
}

impl<F> Follower<F>
where
    F: FnMut(Option<&[u8]>) -> Result<(), String> + Send,
{
    /// Looks once. A server that does not answer leaves everything as it is.
    pub async fn look(&mut self) {
        match self.read().await {
            Ok(value) => {
                self.failures = 0;
                if self.seen.as_ref() != Some(&value) {
                    self.apply(value);
                }
            }
            Err(error) => {
                self.settings = None;
                let (service, failures) = (self.service, self.failures);
                events::StoreWaited { service, store: "nats", failures, error: &error }.emit();
                self.failures = failures.saturating_add(1);
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, BusError> {
        let settings = match self.settings.take() {
            Some(settings) => settings,
            None => self.bus.settings().await?,
        };
        self.settings.insert(settings).get(&self.key).await
    }

    fn apply(&mut self, value: Option<Bytes>) {
        let applied = (self.apply)(value.as_deref());
        let (service, key) = (self.service, self.key.as_str());
        match applied {
            // That nothing was set yet is nothing to tell.
            Ok(()) if self.seen.is_none() && value.is_none() => {}
            Ok(()) => events::SettingApplied { service, key }.emit(),
            Err(why) => events::SettingRefused { service, key, error: &why }.emit(),
        }
        self.seen = Some(value);
    }

    /// The actor: looks every five seconds until the drain.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), ActorError> {
        loop {
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = tokio::time::sleep(EVERY) => {}
            }
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = self.look() => {}
            }
        }
    }
}
