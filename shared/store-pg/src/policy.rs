//! A collection's policy: what is kept of its crops, and for how long. Removing what is too old is done elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use facewire_domain::{CollectionId, KeepFaces, KeepImages};
use serde::Serialize;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::audit::{Actor, EventKind, NewEvent, record};
use crate::error::StoreError;
use crate::row::row;
use crate::store::{Store, run};

/// What a collection keeps. A duration is above zero; `None` is the operator's default for results, and for ever otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct CollectionPolicy {
    /// Which embeddings.
    pub keep_faces: KeepFaces,
    /// Which images.
    pub keep_images: KeepImages,
    /// How long crops and their endings stay, from their admission on.
    pub retain_results: Option<Duration>,
    /// How long faces without a person stay.
    pub retain_unmatched: Option<Duration>,
    /// How long images stay.
    pub retain_images: Option<Duration>,
}

/// What is to be changed of a policy; what is `None` stays. A duration that is `Some(None)` is the operator's default for results,
/// and for ever otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PolicyChanges {
    /// Which embeddings.
    pub keep_faces: Option<KeepFaces>,
    /// Which images.
    pub keep_images: Option<KeepImages>,
    /// How long crops and their endings stay.
    pub retain_results: Option<Option<Duration>>,
    /// How long faces without a person stay.
    pub retain_unmatched: Option<Option<Duration>>,
    /// How long images stay.
    pub retain_images: Option<Option<Duration>>,
}

impl PolicyChanges {
    /// A policy with these changes.
    pub fn over(&self, policy: CollectionPolicy) -> CollectionPolicy {
        CollectionPolicy {
            keep_faces: self.keep_faces.unwrap_or(policy.keep_faces),
            keep_images: self.keep_images.unwrap_or(policy.keep_images),
            retain_results: self.retain_results.unwrap_or(policy.retain_results),
            retain_unmatched: self.retain_unmatched.unwrap_or(policy.retain_unmatched),
            retain_images: self.retain_images.unwrap_or(policy.retain_images),
        }
    }
}

row! {
    struct Row {
        collection: String,
        keep_faces: String,
        keep_images: String,
        results: Option<f64>,
        unmatched: Option<f64>,
        images: Option<f64>,
    }
}

impl TryFrom<Row> for (CollectionId, CollectionPolicy) {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let corrupt = StoreError::corrupt;
        let collection = row.collection.parse().map_err(|_| corrupt("collections.collection"))?;
        let duration = |seconds: Option<f64>| {
            seconds.map(Duration::try_from_secs_f64).transpose().map_err(|_| corrupt("collections.retain_*"))
        };
        let policy = CollectionPolicy {
            keep_faces: KeepFaces::parse(&row.keep_faces).ok_or(corrupt("collections.keep_faces"))?,
            keep_images: KeepImages::parse(&row.keep_images).ok_or(corrupt("collections.keep_images"))?,
            retain_results: duration(row.results)?,
            retain_unmatched: duration(row.unmatched)?,
            retain_images: duration(row.images)?,
        };
        Ok((collection, policy))
    }
}

macro_rules! select_policies {
    ($rest:literal) => {
        concat!(
            "SELECT collection, keep_faces, keep_images, extract(epoch FROM retain_results)::float8 AS results,
             extract(epoch FROM retain_unmatched)::float8 AS unmatched, extract(epoch FROM retain_images)::float8 AS images
             FROM collections WHERE ",
            $rest
        )
    };
}

const POLICIES: &str = select_policies!("$1::text IS NULL OR collection = $1 ORDER BY collection");

const LOCKED: &str = select_policies!("collection = $1 FOR NO KEY UPDATE");

const UPDATE: &str = "
UPDATE collections SET keep_faces = $2, keep_images = $3, retain_results = make_interval(secs => $4),
    retain_unmatched = make_interval(secs => $5), retain_images = make_interval(secs => $6)
WHERE collection = $1";

impl Store {
    /// The policy of a collection; the default where it has no row.
    pub async fn policy(&self, collection: &CollectionId) -> Result<CollectionPolicy, StoreError> {
        Ok(self.read_policies(Some(collection)).await?.remove(collection).unwrap_or_default())
    }

    /// The policies of all collections.
    pub async fn policies(&self) -> Result<BTreeMap<CollectionId, CollectionPolicy>, StoreError> {
        self.read_policies(None).await
    }

    async fn read_policies(
        &self,
        collection: Option<&CollectionId>,
    ) -> Result<BTreeMap<CollectionId, CollectionPolicy>, StoreError> {
        let rows: Vec<Row> = run!(self, "policies", connection => {
            sqlx::query_as(POLICIES).bind(collection.map(CollectionId::as_str)).fetch_all(connection).await
        })?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Changes the policy of a collection; `false` where it is not there. Whoever changes something else of it at the same time does
    /// not undo this.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a duration of zero.
    pub async fn update_policy(
        &self,
        collection: &CollectionId,
        changes: &PolicyChanges,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        changes.over(CollectionPolicy::default()).check()?;
        run!(self, "update policy", connection => update(connection, collection, changes, actor).await)?
    }
}

async fn update(
    connection: &mut PgConnection,
    collection: &CollectionId,
    changes: &PolicyChanges,
    actor: &Actor,
) -> Result<Result<bool, StoreError>, sqlx::Error> {
    let mut tx = connection.begin().await?;
    let row: Option<Row> = sqlx::query_as(LOCKED).bind(collection.as_str()).fetch_optional(&mut *tx).await?;
    let Some(row) = row else { return Ok(Ok(false)) };
    let (_, policy) = match <(CollectionId, CollectionPolicy)>::try_from(row) {
        Ok(read) => read,
        Err(error) => return Ok(Err(error)),
    };
    write(&mut tx, collection, &changes.over(policy)).await?;
    record(&mut tx, actor, NewEvent::of(collection.as_str(), EventKind::CollectionUpdated)).await?;
    tx.commit().await?;
    Ok(Ok(true))
}

impl CollectionPolicy {
    /// What is kept is kept for longer than no time.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if [self.retain_results, self.retain_unmatched, self.retain_images].contains(&Some(Duration::ZERO)) {
            return Err(StoreError::Invalid { index: 0, what: "what is kept is kept for longer than no time" });
        }
        Ok(())
    }
}

/// Writes the policy of a collection that is there.
pub(crate) async fn write(
    connection: &mut PgConnection,
    collection: &CollectionId,
    policy: &CollectionPolicy,
) -> Result<(), sqlx::Error> {
    let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
    sqlx::query(UPDATE)
        .bind(collection.as_str())
        .bind(policy.keep_faces.as_str())
        .bind(policy.keep_images.as_str())
        .bind(seconds(policy.retain_results))
        .bind(seconds(policy.retain_unmatched))
        .bind(seconds(policy.retain_images))
        .execute(connection)
        .await
        .map(|_| ())
}
