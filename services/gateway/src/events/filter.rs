//! What is said of a message before anybody is told of it: what it is about, and who wants to know. Pure.

use facewire_bus::Record;
use facewire_domain::{CameraId, CollectionId, PersonId, Status};
use facewire_store_pg::{Source, WebhookFilter};
use serde_json::Value;
use uuid::Uuid;

use crate::json::camel;

/// The kind of a result, beside those of events.
pub(crate) const RECOGNITION: &str = "recognition";

/// Where a result names persons.
const OF_RESULTS: [&str; 3] = ["/decision/person/person_id", "/person/person_id", "/decision/runner_up/person_id"];
/// Where an event does.
const OF_EVENTS: [&str; 2] = ["/personId", "/otherPersonId"];

/// A message of RESULTS or EVENTS, read as far as filters need it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Said {
    pub(crate) source: Source,
    pub(crate) sequence: u64,
    pub(crate) kind: String,
    pub(crate) collection: CollectionId,
    /// Of a result.
    camera: Option<CameraId>,
    status: Option<Status>,
    /// Who is named first: the person recognised, enrolled or changed.
    person: Option<PersonId>,
    /// Everybody who is named.
    pub(crate) persons: Vec<PersonId>,
    /// As clients get it.
    pub(crate) data: Value,
}

impl Said {
    /// Reads a message; `None`: it is none of ours.
    pub(crate) fn read(source: Source, record: &Record) -> Option<Self> {
        let data: Value = serde_json::from_slice(&record.json).ok()?;
        let collection = record.subject.split('.').nth(1)?.parse().ok()?;
        let text = |pointer: &str| data.pointer(pointer).and_then(Value::as_str);
        let id = |pointer: &str| text(pointer).and_then(|id| id.parse::<Uuid>().ok()).map(PersonId::from);
        let (kind, named) = match source {
            Source::Results => (RECOGNITION.to_owned(), &OF_RESULTS[..]),
            Source::Events => (text("/kind")?.to_owned(), &OF_EVENTS[..]),
        };
        let camera = text("/camera").and_then(|camera| camera.parse().ok());
        let status = text("/status").and_then(|status| status.parse().ok());
        let persons: Vec<PersonId> = named.iter().filter_map(|pointer| id(pointer)).collect();
        let person = match source {
            Source::Results => id("/decision/person/person_id").or_else(|| id("/person/person_id")),
            Source::Events => persons.first().copied(),
        };
        let data = if source == Source::Results { camel(data) } else { data };
        Some(Self { source, sequence: record.sequence, kind, collection, camera, status, person, persons, data })
    }

    /// Messages of one key are told in order: those of a person, else those of a camera or collection.
    pub(crate) fn order_key(&self) -> String {
        match (self.person, &self.camera) {
            (Some(person), _) => format!("person {person}"),
            (None, Some(camera)) => format!("camera {}/{camera}", self.collection),
            (None, None) => format!("collection {}", self.collection),
        }
    }

    /// Whether a filter lets it through. What is empty does not narrow.
    pub(crate) fn passes(&self, filter: &WebhookFilter) -> bool {
        let is_result = self.source == Source::Results;
        let of = |wanted: bool, is_empty: bool| is_empty || wanted;
        of(filter.kinds.contains(&self.kind), filter.kinds.is_empty())
            && of(filter.persons.iter().any(|person| self.persons.contains(person)), filter.persons.is_empty())
            && (!filter.unknown_only || (is_result && self.person.is_none()))
            && (!is_result
                || of(self.status.is_some_and(|own| filter.statuses.contains(&own)), filter.statuses.is_empty())
                    && of(
                        self.camera.as_ref().is_some_and(|own| filter.cameras.contains(own)),
                        filter.cameras.is_empty(),
                    ))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;
    use time::OffsetDateTime;

    use super::*;

    fn said(source: Source, subject: &str, json: Value) -> Said {
        let json = Bytes::from(json.to_string());
        let record = Record { subject: subject.to_owned(), sequence: 7, stored_at: OffsetDateTime::UNIX_EPOCH, json };
        Said::read(source, &record).unwrap()
    }

    const ADA: Uuid = Uuid::from_u128(1);

    fn matched() -> Said {
        let person = json!({"person_id": ADA});
        let result = json!({"camera": "door", "status": "matched", "decision": {"person": person}});
        said(Source::Results, "results.office.door", result)
    }

    #[test]
    fn a_result_is_told_in_the_order_of_its_person_and_else_of_its_camera() {
        assert_eq!(matched().order_key(), format!("person {ADA}"));
        assert_eq!(matched().data.pointer("/decision/person/personId"), Some(&json!(ADA)));
        let nobody = said(Source::Results, "results.office.door", json!({"camera": "door", "status": "no_match"}));
        assert_eq!(nobody.order_key(), "camera office/door");
        let changed =
            said(Source::Events, "events.office.person_updated", json!({"kind": "person.updated", "personId": ADA}));
        assert_eq!(changed.order_key(), format!("person {ADA}"));
    }

    #[test]
    fn a_filter_narrows_by_what_it_names_only() {
        let unknown = said(Source::Results, "results.office.gate", json!({"camera": "gate", "status": "no_match"}));
        let changed = said(Source::Events, "events.office.collection_updated", json!({"kind": "collection.updated"}));
        let all = WebhookFilter::default();
        assert!(matched().passes(&all) && unknown.passes(&all) && changed.passes(&all));
        let door = WebhookFilter { cameras: vec!["door".parse().unwrap()], ..WebhookFilter::default() };
        assert!(matched().passes(&door) && !unknown.passes(&door) && changed.passes(&door));
        let ada = WebhookFilter { persons: vec![ADA.into()], ..WebhookFilter::default() };
        assert!(matched().passes(&ada) && !unknown.passes(&ada) && !changed.passes(&ada));
        let strangers = WebhookFilter { unknown_only: true, ..WebhookFilter::default() };
        assert!(!matched().passes(&strangers) && unknown.passes(&strangers) && !changed.passes(&strangers));
        let results = WebhookFilter { kinds: vec![RECOGNITION.to_owned()], ..WebhookFilter::default() };
        assert!(matched().passes(&results) && !changed.passes(&results));
        let misses = WebhookFilter { statuses: vec![Status::NoMatch], ..WebhookFilter::default() };
        assert!(!matched().passes(&misses) && unknown.passes(&misses));
    }
}
