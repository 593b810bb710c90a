//! Postgres, the truth: admitted crops, their endings, persons, enrolled faces (DESIGN §3, §4, §6). The only crate that
//! names sqlx.
//!
//! Writes take batches and are idempotent: a batch may hold duplicates and may be delivered again. A statement takes at
//! most [`CHUNK`] rows; each statement is whole or not at all, a longer batch is not.

mod api_keys;
mod assign;
mod audit;
mod calibrations;
mod cameras;
mod collections;
mod crop_history;
mod crops;
mod deliveries;
mod delivery;
mod delivery_retention;
mod embedding;
mod ending;
mod endings;
mod enrol;
mod enrol_plan;
mod enrolment_lock;
mod erased;
mod erasure;
mod error;
mod estimate;
mod face_list;
mod face_record;
mod faces;
mod failures;
mod fencing;
mod idempotency;
mod import_item;
mod import_items;
mod imports;
mod kept_faces;
mod ledger;
mod measured;
mod merges;
mod negatives;
mod new_face;
mod options;
mod parts;
mod person_edit;
mod person_list;
mod person_names;
mod persons;
mod policy;
mod receipts;
mod recognitions;
mod reembed;
mod retention;
mod row;
mod schema;
mod serving;
mod store;
mod stored;
mod webhooks;
mod window;

pub use api_keys::{KeyRecord, KeyState, NewKey};
pub use assign::{Assigned, Assignment, Split};
pub use audit::{Actor, AuditFilter, EventKind, NewEvent, StoredEvent};
pub use calibrations::{CalibrationRow, NewCalibration, StoredCalibration};
pub use cameras::{CameraSum, Cause, SignalBounds, SignalSpread};
pub use collections::{CollectionDetails, CollectionSummary};
pub use crop_history::{CropHistory, CropRecord, EndingRecord, FailureRecord};
pub use crops::{Admission, CropHead, NewCrop};
pub use delivery::{ClaimLimits, Claimed, DELIVERY_BYTES, DeadDelivery, NewDelivery, Source};
pub use ending::{Ending, FaceQuality, Finished, StageTime};
pub use enrolment_lock::EnrolmentGuard;
pub use erasure::{ErasedFace, FaceSelection};
pub use error::StoreError;
pub use face_record::{FaceOrigin, FaceRecord, StoredFace, VectorState};
pub use failures::{FailureCount, FailureFilter, FailureRow};
pub use idempotency::{ANSWER_BYTES, Begun, IDEMPOTENCY_KEY_BYTES, RequestTicket, StoredAnswer};
pub use import_item::{
    EndedItem, ITEM_METADATA_LENGTH, ImportItem, ItemCount, ItemEnding, ItemEndings, ItemFilter, ItemPlace, ItemState,
    NewImportItem,
};
pub use imports::{Closed, Import, ImportState};
pub use kept_faces::KeptFace;
pub use ledger::{CameraLedger, Ledger, LedgerFilter};
pub use measured::{MeasuredFace, MeasuredPlace};
pub use merges::{MergeRef, Merged};
pub use negatives::{Negative, NegativeExemplar};
pub use new_face::{ConflictKind, Enrolment, NewFace};
pub use options::Options;
pub use person_edit::{METADATA_LENGTH, PersonChanges, PersonCreation, PersonUpdate};
pub use person_list::{PersonFilter, PersonPage, PersonStart, PersonSummary};
pub use persons::{Gallery, Person, PersonStatus};
pub use policy::CollectionPolicy;
pub use receipts::{BegunErasure, ErasureReceipt};
pub use recognitions::{CameraSeen, RecognitionFilter, RecognitionKey, RecognitionRow};
pub use reembed::Switch;
pub use retention::Expired;
pub use schema::PendingMigration;
pub use serving::{ModelFaces, Serving};
pub use store::{CHUNK, Store};
pub use webhooks::{NewWebhook, Webhook, WebhookChanges, WebhookFilter};
pub use window::Window;
