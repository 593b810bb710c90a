//! Tombstones: what was erased does not come back with a crop that was received before. Erasures write them, and whoever enrols or
//! keeps a face looks for them.

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::erasure::FaceSelection;
use crate::error::StoreError;
use crate::persons::lock_collections;
use crate::receipts::BegunErasure;
use crate::store::{Store, run, text};

// The time is that of now and not of the transaction's begin: whoever held the lock before is older. Never one to come, where none
// is given or where one is: it would refuse what is enrolled until then.
const TOMBSTONES: &str = "
INSERT INTO tombstones (collection, key, at) SELECT $1, k.key, least($3, clock_timestamp()) FROM UNNEST($2::bytea[]) AS k (key)
ON CONFLICT (collection, key) DO UPDATE SET at = greatest(tombstones.at, EXCLUDED.at)";

// A crop without a row was removed with its collection, or is very old.
const ERASED: &str = "
SELECT i.place FROM UNNEST($1::text[], $2::uuid[], $3::bytea[], $4::uuid[]) WITH ORDINALITY
    AS i (collection, person_id, image_hash, crop_id, place)
LEFT JOIN crops c ON c.crop_id = i.crop_id
WHERE i.crop_id IS NOT NULL AND EXISTS (
    SELECT FROM tombstones t WHERE t.collection = i.collection
        AND t.key IN (uuid_send(i.person_id), i.image_hash, ''::bytea)
        AND t.at > coalesce(least(c.received_at, c.admitted_at), '-infinity'))";

// Whoever asked for an enrolment before all was gone did not know: it does not bring the person back either.
const TO_THE_END: &str = "
UPDATE tombstones SET at = greatest(at, clock_timestamp()) WHERE collection = $1 AND key = ANY($2::bytea[])";

impl Store {
    /// Sees to it that no crop of an asset that was received before now brings back what is to be erased, also one that was admitted
    /// only since the erasure began: its image was not known then. Nothing for other erasures, which know from the beginning what
    /// they are of.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn extend_erasure(&self, begun: &BegunErasure, what: &FaceSelection) -> Result<(), StoreError> {
        let FaceSelection::Asset(..) = what else { return Ok(()) };
        run!(self, "extend an erasure", connection => {
            let mut tx = connection.begin().await?;
            lock_collections(&mut tx, &[begun.collection.as_str()]).await?;
            write_tombstones(&mut tx, begun.collection.as_str(), what, &[]).await?;
            tx.commit().await
        })
    }
}

/// Nothing that was received before now brings back what is to be erased, of whom `persons` are. Whoever calls holds the collection's
/// lock.
pub(crate) async fn write_tombstones(
    connection: &mut PgConnection,
    collection: &str,
    what: &FaceSelection,
    persons: &[Uuid],
) -> Result<(), sqlx::Error> {
    let (keys, at) = keys_of(connection, what, persons).await?;
    sqlx::query(TOMBSTONES).bind(collection).bind(&keys).bind(at).execute(connection).await.map(|_| ())
}

/// The same of the persons, up to now.
pub(crate) async fn renew_tombstones(
    connection: &mut PgConnection,
    collection: &str,
    persons: &[Uuid],
) -> Result<(), sqlx::Error> {
    let keys: Vec<&[u8]> = persons.iter().map(|person| person.as_bytes().as_slice()).collect();
    sqlx::query(TO_THE_END).bind(collection).bind(&keys).execute(connection).await.map(|_| ())
}

/// The keys of the tombstones, and their time where it is not now.
async fn keys_of(
    connection: &mut PgConnection,
    what: &FaceSelection,
    persons: &[Uuid],
) -> Result<(Vec<Vec<u8>>, Option<OffsetDateTime>), sqlx::Error> {
    const IMAGES: &str = "
SELECT image_hash FROM faces WHERE collection = $1 AND asset_id = $2
UNION SELECT c.image_hash FROM crop_assets a JOIN crops c ON c.crop_id = a.crop_id WHERE a.collection = $1 AND a.asset_id = $2";
    Ok(match what {
        FaceSelection::Person(_) => (persons.iter().map(|person| person.as_bytes().to_vec()).collect(), None),
        FaceSelection::Image(_, image) => (vec![image.as_bytes().to_vec()], None),
        FaceSelection::Asset(collection, asset) => {
            let query = sqlx::query_scalar(IMAGES).bind(collection.as_str()).bind(text(asset));
            (query.fetch_all(connection).await?, None)
        }
        FaceSelection::Before(_, before) => (vec![Vec::new()], Some(*before)),
        FaceSelection::Collection(_) => (vec![Vec::new()], None),
    })
}

/// A face that is about to be enrolled, as far as tombstones concern it.
pub(crate) struct Received<'a> {
    pub(crate) collection: &'a str,
    pub(crate) person: Uuid,
    pub(crate) image: &'a [u8],
    /// Without a crop it is a decision of now.
    pub(crate) crop: Option<Uuid>,
}

/// Positions of those that came with a crop that was received before their person, image or collection was erased.
pub(crate) async fn erased_since(
    connection: &mut PgConnection,
    faces: &[Received<'_>],
) -> Result<Vec<usize>, sqlx::Error> {
    let places: Vec<i64> = sqlx::query_scalar(ERASED)
        .bind(faces.iter().map(|face| face.collection).collect::<Vec<_>>())
        .bind(faces.iter().map(|face| face.person).collect::<Vec<_>>())
        .bind(faces.iter().map(|face| face.image).collect::<Vec<_>>())
        .bind(faces.iter().map(|face| face.crop).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    Ok(places.into_iter().filter_map(|place| usize::try_from(place - 1).ok()).collect())
}
