//! The vector index of enrolled faces, in Qdrant: one point a face, cosine, the payload of DESIGN §6. The only crate
//! that talks to Qdrant, and only through `qdrant-client`; Postgres is the truth, this can be rebuilt from it. Decisions,
//! SQL and queues must not come in.

mod collection;
mod error;
mod options;
mod point;
mod scan;
mod search;
mod write;

use std::sync::Arc;
use std::time::Instant;

use facewire_telemetry::events;
use qdrant_client::Qdrant;

pub use error::VecError;
pub use options::Options;
pub use point::{FacePayload, FacePoint, StoredPoint};
pub use scan::Page;
pub use search::Probe;
pub use write::Selection;

/// A client of one Qdrant collection. Cheap to clone; shares its connections, which are made when they are first needed
/// and made anew when they break.
#[derive(Clone)]
pub struct VecStore {
    client: Qdrant,
    collection: Arc<str>,
}

impl VecStore {
    /// Takes the options in. Makes no call: the server may come up later, and [`health`](Self::health) tells.
    ///
    /// # Errors
    /// [`VecError::Options`] for a URL or a key that cannot be used.
    pub fn connect(options: &Options) -> Result<Self, VecError> {
        Ok(Self { client: options.client()?, collection: options.collection.as_str().into() })
    }

    /// The Qdrant collection (or alias) that it works on.
    pub fn collection(&self) -> &str {
        &self.collection
    }

    /// Whether the server answers. Gives its version.
    ///
    /// # Errors
    /// Transient ones while it does not.
    pub async fn health(&self) -> Result<String, VecError> {
        Ok(self.client.health_check().await.map_err(|error| self.error(error))?.version)
    }

    /// One call of the hot path or of a scan, and how long it took.
    async fn timed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, qdrant_client::QdrantError>>,
    ) -> Result<T, VecError> {
        let started = Instant::now();
        let answer = call.await;
        events::StoreAnswered { system: "qdrant", operation, took: started.elapsed(), well: answer.is_ok() }.emit();
        answer.map_err(|error| self.error(error))
    }

    fn error(&self, error: qdrant_client::QdrantError) -> VecError {
        VecError::from_client(error, &self.collection)
    }
}

impl std::fmt::Debug for VecStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The client's configuration holds the key.
        f.debug_struct("VecStore").field("collection", &self.collection).finish_non_exhaustive()
    }
}
