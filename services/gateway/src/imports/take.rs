//! Items into the chain: a batch of rows first, then every image as a crop, then the rows are marked. The crop of an item is
//! the same however often it is sent, so a client that starts over repeats nothing.

use std::collections::{BTreeMap, HashMap};

use facewire_bus::{Bus, BusError, Message};
use facewire_contracts::{headers, subjects};
use facewire_domain::{CameraId, CropId, Fault, FaultKind, Intent, PersonId, Reason, Status, SubjectId};
use facewire_runtime::{Backoff, Shutdown, retry};
use facewire_store_pg::{Import, ImportItem, ItemEnding, ItemState, NewImportItem};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use sha2::{Digest, Sha256};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use super::CAMERA;
use super::item::{Item, Said, Who};
use super::pace::ending;
use crate::App;
use crate::error::{ApiError, Code};

/// Items of a batch.
const BATCH: usize = 64;
/// Bytes of images from which on a batch is full.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Images that are published at a time.
const AT_A_TIME: usize = 16;
/// Refusals that an answer tells.
const MOST_TOLD: usize = 100;
/// Longest text of a refusal, in characters: it may repeat what the client sent.
const LONGEST: usize = 200;
/// An item that was sent and did not end is sent again after this time, if the client does.
const SENT_AGAIN: Duration = Duration::HOUR;

/// What became of the items of a request.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Items that are on their way now.
    pub(crate) sent: u64,
    /// Items that were on their way, or done, before.
    pub(crate) skipped: u64,
    /// Items that were not taken; send them again once they are corrected.
    pub(crate) refused: u64,
    /// The first 100 of those.
    refusals: Vec<Refusal>,
}

/// An item that was not taken.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refusal {
    /// Which line of the body or of its manifests, from 1; none for a file that no line names.
    line: Option<u64>,
    /// Its number, where that could be read.
    item: Option<u64>,
    code: Code,
    /// The field that is wrong.
    field: Option<String>,
    message: String,
}

/// Takes the items of one request.
pub(super) struct Taker<'a> {
    app: &'a App,
    import: &'a Import,
    camera: CameraId,
    batch: Vec<Item>,
    report: Report,
}

/// An item whose person is known.
struct Known {
    item: Item,
    subject: SubjectId,
    /// For a person who is not there yet, or gets this name.
    name: Option<String>,
}

impl<'a> Taker<'a> {
    pub(super) fn new(app: &'a App, import: &'a Import) -> Result<Self, ApiError> {
        let camera = CAMERA.parse().map_err(ApiError::internal)?;
        Ok(Self { app, import, camera, batch: Vec::new(), report: Report::default() })
    }

    pub(super) fn report(self) -> Report {
        self.report
    }

    pub(super) fn refuse(&mut self, line: Option<u64>, item: Option<u64>, error: &ApiError) {
        self.report.refused += 1;
        if self.report.refusals.len() < MOST_TOLD {
            let field = error.details.get("field").and_then(serde_json::Value::as_str);
            let shortened = |text: &str| text.chars().take(LONGEST).collect::<String>();
            self.report.refusals.push(Refusal {
                line,
                item,
                code: error.code,
                field: field.map(shortened),
                message: shortened(&error.message),
            });
        }
    }

    fn refuse_item(&mut self, said: &Said, error: &ApiError) {
        self.refuse(Some(said.line), Some(said.item), error);
    }

    /// One item more; a full batch is sent.
    pub(super) async fn take(&mut self, item: Item) -> Result<(), ApiError> {
        self.batch.push(item);
        let bytes: usize = self.batch.iter().map(|item| item.image.len()).sum();
        if self.batch.len() >= BATCH || bytes >= BATCH_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Sends what was taken.
    pub(super) async fn flush(&mut self) -> Result<(), ApiError> {
        let batch = std::mem::take(&mut self.batch);
        let items = self.distinct(batch);
        let known = self.known(items).await?;
        let due = self.due(known).await?;
        let shots = due.into_iter().map(|known| self.shot(known)).collect::<Result<Vec<Shot>, ApiError>>()?;
        let (bus, shutdown) = (&self.app.bus, &self.app.shutdown);
        let patience = self.app.options.request_timeout;
        let publishing = shots.into_iter().map(|shot| async move {
            let published = publish(bus, shutdown, patience, &shot.message).await;
            (shot, published)
        });
        let published: Vec<_> = stream::iter(publishing).buffer_unordered(AT_A_TIME).collect().await;
        self.mark(published).await
    }

    /// Each number once: the first counts.
    fn distinct(&mut self, batch: Vec<Item>) -> Vec<Item> {
        let mut items: BTreeMap<u64, Item> = BTreeMap::new();
        for item in batch {
            match items.get(&item.said.item) {
                None => drop(items.insert(item.said.item, item)),
                Some(first) if first.hash == item.hash && first.said.who == item.said.who => self.report.skipped += 1,
                Some(_) => self.refuse_item(&item.said, &another()),
            }
        }
        items.into_values().collect()
    }

    /// Whom the items are of.
    async fn known(&mut self, items: Vec<Item>) -> Result<Vec<Known>, ApiError> {
        let store = &self.app.gallery.store;
        let of_name = |item: &Item| Some(item.said.name.clone()?).filter(|_| item.said.who == Who::Named);
        let names: Vec<String> = items.iter().filter_map(of_name).collect();
        let asked: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut named = store.subjects_named(&self.import.collection, &asked).await?.into_iter();
        let mut persons: HashMap<PersonId, Option<SubjectId>> = HashMap::new();
        let mut known = Vec::with_capacity(items.len());
        for item in items {
            let name = item.said.name.clone();
            let (subject, name) = match &item.said.who {
                Who::External(subject) => (Some(subject.clone()), name),
                Who::Named => match named.next().flatten() {
                    // They keep their name as it is written.
                    Some(subject) => (Some(subject), None),
                    None => (Some(self.new_subject(name.as_deref().unwrap_or_default())?), name),
                },
                Who::Person(id) => match persons.get(id) {
                    Some(subject) => (subject.clone(), None),
                    None => {
                        let person = store.person(*id).await?;
                        let person = person.filter(|person| person.collection == self.import.collection);
                        let subject = person.map(|person| person.person.external_id);
                        persons.insert(*id, subject.clone());
                        (subject, None)
                    }
                },
            };
            match subject {
                Some(subject) => known.push(Known { item, subject, name }),
                None => self.refuse_item(&item.said, &ApiError::not_found("person")),
            }
        }
        Ok(known)
    }

    /// The external id of a person who is new by name: the same each time that the item is sent.
    fn new_subject(&self, name: &str) -> Result<SubjectId, ApiError> {
        let mut hash = Sha256::new();
        hash.update(self.import.import_id.as_bytes());
        hash.update(name.trim().to_lowercase());
        let digest: [u8; 32] = hash.finalize().into();
        let mut half = [0; 16];
        half.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        uuid::Builder::from_custom_bytes(half).into_uuid().to_string().parse().map_err(ApiError::internal)
    }

    /// Writes the rows, and answers those that are to be published, as their rows say.
    async fn due(&mut self, known: Vec<Known>) -> Result<Vec<Known>, ApiError> {
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let store = &self.app.gallery.store;
        let rows = known.iter().map(row).collect::<Result<Vec<NewImportItem>, ApiError>>()?;
        if store.add_import_items(self.import.import_id, &rows).await?.is_none() {
            return Err(ApiError::new(Code::Conflict, "the import takes no items any more"));
        }
        let numbers: Vec<u64> = rows.iter().map(|row| row.item).collect();
        let stored = store.import_items_of(self.import.import_id, &numbers).await?;
        let mut stored: HashMap<u64, ImportItem> = stored.into_iter().map(|row| (row.item, row)).collect();
        let now = OffsetDateTime::now_utc();
        let mut due = Vec::with_capacity(known.len());
        for known in known {
            let Some(row) = stored.remove(&known.item.said.item) else { continue };
            match judge(&known, &row, now) {
                Verdict::Due => {
                    let subject = row.subject.unwrap_or(known.subject);
                    due.push(Known { item: known.item, subject, name: row.name });
                }
                Verdict::Before => self.report.skipped += 1,
                Verdict::Another => self.refuse_item(&known.item.said, &another()),
            }
        }
        Ok(due)
    }

    /// The item as a producer would publish it. Its crop follows from the import and the item alone.
    fn shot(&self, known: Known) -> Result<Shot, ApiError> {
        let Known { item: Item { said, image, hash }, subject, name } = known;
        let after = i64::try_from(said.item).map(Duration::nanoseconds).map_err(ApiError::internal)?;
        let captured_at = self.import.created_at + after;
        let collection = &self.import.collection;
        let crop = CropId::derive(collection, &self.camera, captured_at, &hash);
        let mut fields = vec![
            (headers::INTENT, Intent::Enroll.as_str().to_owned()),
            (headers::CAPTURED_AT, captured_at.format(&Rfc3339).map_err(ApiError::internal)?),
            (headers::SUBJECT, subject.to_string()),
        ];
        fields.extend(name.map(|name| (headers::NAME, name)));
        let subject = subjects::crops(collection, &self.camera);
        Ok(Shot {
            said,
            crop,
            message: Message { subject, id: Some(crop.to_string()), headers: fields, payload: image },
        })
    }

    /// Marks what was published, also where others could not be.
    async fn mark(&mut self, published: Vec<(Shot, Result<(), BusError>)>) -> Result<(), ApiError> {
        let store = &self.app.gallery.store;
        let (mut sent, mut failed) = (Vec::with_capacity(published.len()), None);
        for (Shot { said, crop, .. }, result) in published {
            match result {
                Ok(()) => sent.push((said.item, crop)),
                Err(error @ BusError::TooLarge { .. }) => {
                    let ending = ItemEnding {
                        status: Status::Rejected.as_str().to_owned(),
                        reason: Some(Reason::ImageTooLarge.as_str().to_owned()),
                        ..ItemEnding::default()
                    };
                    store.import_item_done(self.import.import_id, said.item, &ending).await?;
                    self.refuse_item(&said, &error.into());
                }
                Err(_) if self.app.shutdown.is_draining() => failed = Some(ending()),
                Err(error) => failed = Some(error.into()),
            }
        }
        if !sent.is_empty() {
            store.import_items_sent(self.import.import_id, &sent).await?;
            self.report.sent += sent.len() as u64;
        }
        failed.map_or(Ok(()), Err)
    }
}

/// An item on its way.
struct Shot {
    said: Said,
    crop: CropId,
    message: Message,
}

/// Publishes until the stream has it. A full stream is waited for: meanwhile nothing is read.
async fn publish(
    bus: &Bus,
    shutdown: &Shutdown,
    patience: std::time::Duration,
    message: &Message,
) -> Result<(), BusError> {
    let transient = |error: &BusError| error.kind() == FaultKind::Transient;
    let say = |error: &BusError, failures| tracing::debug!(%error, failures, "an import waits for the chain");
    let published = retry(Backoff::default(), shutdown.token(), transient, say, || bus.publish(message.clone()));
    match tokio::time::timeout(patience, published).await {
        Ok(published) => published.map(drop),
        Err(_) => Err(BusError::StreamFull { subject: message.subject.clone() }),
    }
}

fn row(known: &Known) -> Result<NewImportItem, ApiError> {
    Ok(NewImportItem {
        item: known.item.said.item,
        image_hash: known.item.hash,
        subject: known.subject.clone(),
        name: known.name.clone(),
        metadata: serde_json::from_str(&known.item.said.metadata).map_err(ApiError::internal)?,
    })
}

/// What is to be done with an item whose row is there.
#[derive(Debug, PartialEq)]
enum Verdict {
    Due,
    /// It is on its way, or done.
    Before,
    /// The number was used for another image or person.
    Another,
}

fn judge(known: &Known, row: &ImportItem, now: OffsetDateTime) -> Verdict {
    let key = |name: &Option<String>| name.as_ref().map(|name| name.to_lowercase());
    let is_same_person = match (&row.subject, &known.item.said.who) {
        // Erased.
        (None, _) => true,
        (Some(subject), Who::External(given)) => subject == given,
        // Somebody else may have taken the name since.
        (Some(subject), Who::Named) => *subject == known.subject || key(&row.name) == key(&known.item.said.name),
        (Some(subject), Who::Person(_)) => *subject == known.subject,
    };
    if row.image_hash != known.item.hash || !is_same_person {
        return Verdict::Another;
    }
    match row.state {
        ItemState::Waiting => Verdict::Due,
        ItemState::Sent if row.updated_at + SENT_AGAIN < now => Verdict::Due,
        ItemState::Sent | ItemState::Done => Verdict::Before,
    }
}

fn another() -> ApiError {
    let why = "the import has another image or person under this number";
    ApiError::new(Code::Conflict, why).with(serde_json::json!({ "field": "item" }))
}
