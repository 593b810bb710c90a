//! How often something was erased from a collection: by it an export is known to hold nobody who was erased since.

use facewire_domain::CollectionId;

use crate::error::StoreError;
use crate::store::{Store, count, run};

impl Store {
    /// Begun erasures of a collection and ended ones together: a number that grows whenever an erasure begins or ends, also where
    /// the collection is made anew. What was read of the collection while it stayed the same holds nothing that was erased.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erasure_generation(&self, collection: &CollectionId) -> Result<u64, StoreError> {
        // No receipt is ever removed, and none begins anew once it is final.
        const SQL: &str = "SELECT count(*) + count(finished_at) FROM erasures WHERE collection = $1";
        let generation: i64 = run!(self, "generation of erasures", connection => {
            sqlx::query_scalar(SQL).bind(collection.as_str()).fetch_one(connection).await
        })?;
        Ok(count(generation))
    }
}
