//! The three servers together, for tests of the whole chain.

use std::path::PathBuf;

use facewire_artifacts::Kind;

use super::{TestDatabase, TestNats, TestQdrant, fetched, nats_with, qdrant};
use crate::error::StackError;

/// The three servers for one test. All of it is gone when dropped.
pub struct TestStack {
    /// `nats://…`, with JetStream.
    pub nats_url: String,
    /// `postgres://…`: an empty database.
    pub postgres_url: String,
    /// `http://…`: Qdrant's gRPC.
    pub qdrant_url: String,
    /// ONNX Runtime's library.
    pub ort_lib: PathBuf,
    /// The directory of the default models (`fr_*.onnx`).
    pub default_models: PathBuf,
    /// To make NATS fail.
    pub nats: TestNats,
    /// To make PostgreSQL fail, if the stack is isolated.
    pub postgres: TestDatabase,
    /// To make Qdrant fail.
    pub qdrant: TestQdrant,
}

impl TestStack {
    /// Starts the set; the PostgreSQL server is shared by the tests of this process.
    ///
    /// # Errors
    /// What [`facewire_artifacts::ensure`] and the starts say.
    pub async fn start() -> Result<Self, StackError> {
        Self::with(false, String::new()).await
    }

    /// The same with a PostgreSQL server of its own, which the test may stop, kill and pause.
    ///
    /// # Errors
    /// As [`TestStack::start`].
    pub async fn isolated() -> Result<Self, StackError> {
        Self::with(true, String::new()).await
    }

    /// The same as [`TestStack::start`], with more in the configuration of its nats-server.
    ///
    /// # Errors
    /// As [`TestStack::start`].
    pub async fn with_nats(more: String) -> Result<Self, StackError> {
        Self::with(false, more).await
    }

    async fn with(isolated: bool, more: String) -> Result<Self, StackError> {
        let found = fetched(&[Kind::NatsServer, Kind::Postgres, Kind::OnnxRuntime, Kind::DefaultModels]).await?;
        let database = async {
            match isolated {
                true => TestDatabase::isolated(found.clone()).await,
                false => TestDatabase::shared(found.clone()).await,
            }
        };
        let (nats, postgres, qdrant) = tokio::try_join!(nats_with(more), database, qdrant())?;
        Ok(Self {
            nats_url: nats.url(),
            postgres_url: postgres.url(),
            qdrant_url: qdrant.url(),
            ort_lib: found.ort_lib,
            default_models: found.default_models,
            nats,
            postgres,
            qdrant,
        })
    }
}
