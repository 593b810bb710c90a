//! The vector index of the kept faces, in Qdrant: one point a face, cosine, the payload of DESIGN §6, one Qdrant collection
//! for each model behind an alias. The only crate that talks to Qdrant, and only through `qdrant-client`; Postgres is the
//! truth, this can be rebuilt from it. No decisions, SQL or queues.

mod batch;
mod collection;
mod error;
mod limits;
mod mixed;
mod naming;
mod neighbours;
mod options;
mod point;
mod scan;
mod search;
mod settings;
mod successor;
mod write;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use facewire_telemetry::events;
use qdrant_client::Qdrant;
use qdrant_client::qdrant::SearchParams;

use limits::Limits;
use mixed::Mixed;
use settings::Creation;

pub use collection::{Ensured, Indexing, Serving};
pub use error::VecError;
pub use neighbours::{Neighbour, Unknown};
pub use options::{Options, Quantization};
pub use point::{FacePayload, FacePoint, StoredPoint};
pub use scan::Page;
pub use search::{DECISION, Probe};
pub use successor::Unserved;
pub use write::{Selection, Stored};

/// A client of one Qdrant collection: of the one that serves, through its alias, or of one by its own name. Cheap to
/// clone; clones share their connections, which are made when they are first needed and made anew when they break.
#[derive(Clone)]
pub struct VecStore {
    client: Qdrant,
    /// The alias, or a collection by its own name.
    collection: Arc<str>,
    alias: Arc<str>,
    creation: Creation,
    /// What every search says beside its vector.
    search: SearchParams,
    known: Arc<RwLock<Known>>,
    mixed: Arc<Mixed>,
}

/// What `ensure` found out.
#[derive(Debug, Clone, Default)]
struct Known {
    limits: Limits,
    /// The alias of the model that serves, which requests name from then on.
    target: Option<Arc<str>>,
}

impl VecStore {
    /// A client of the collection that serves. Makes no call: the server may come up later, see [`health`](Self::health).
    ///
    /// # Errors
    /// [`VecError::Options`] for a URL or a key that cannot be used.
    pub fn connect(options: &Options) -> Result<Self, VecError> {
        let alias: Arc<str> = options.collection.as_str().into();
        Ok(Self {
            client: options.client()?,
            collection: Arc::clone(&alias),
            alias,
            creation: Creation {
                shards: options.shards,
                replicas: options.replicas,
                quantization: options.quantization,
            },
            search: options.search(),
            known: Arc::default(),
            mixed: Arc::default(),
        })
    }

    /// The alias or the Qdrant collection that it works on.
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

    fn known(&self) -> Known {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn limits(&self) -> Limits {
        self.known().limits
    }

    /// What requests for points name.
    fn target(&self) -> Arc<str> {
        self.known().target.unwrap_or_else(|| Arc::clone(&self.collection))
    }

    fn set_known(&self, known: Known) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
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
