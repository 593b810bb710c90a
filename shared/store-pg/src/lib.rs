//! Postgres, the truth: admitted crops, their endings, persons, enrolled faces (DESIGN §3, §4, §6). The only crate that
//! names sqlx.
//!
//! Writes take batches and are idempotent: a batch may hold duplicates and may be delivered again. A statement takes at
//! most [`CHUNK`] rows; each statement is whole or not at all, a longer batch is not.

mod assign;
mod calibrations;
mod cameras;
mod crop_history;
mod crops;
mod embedding;
mod ending;
mod endings;
mod enrol;
mod enrol_plan;
mod enrolment_lock;
mod erasure;
mod error;
mod estimate;
mod face_record;
mod faces;
mod failures;
mod fencing;
mod kept_faces;
mod ledger;
mod measured;
mod new_face;
mod options;
mod parts;
mod persons;
mod policy;
mod reembed;
mod retention;
mod schema;
mod serving;
mod store;
mod stored;
mod window;

pub use assign::Split;
pub use calibrations::{CalibrationRow, NewCalibration, StoredCalibration};
pub use cameras::{CameraSum, Cause, SignalBounds, SignalSpread};
pub use crop_history::{CropHistory, CropRecord, EndingRecord, FailureRecord};
pub use crops::{Admission, CropHead, NewCrop};
pub use ending::{Ending, FaceQuality, Finished, StageTime};
pub use enrolment_lock::EnrolmentGuard;
pub use erasure::{ErasedFace, FaceSelection};
pub use error::StoreError;
pub use face_record::{FaceOrigin, FaceRecord, StoredFace, VectorState};
pub use failures::{FailureCount, FailureFilter, FailureRow};
pub use kept_faces::KeptFace;
pub use ledger::{CameraLedger, Ledger, LedgerFilter};
pub use measured::{MeasuredFace, MeasuredPlace};
pub use new_face::{ConflictKind, Enrolment, NewFace};
pub use options::Options;
pub use persons::{Gallery, Person, PersonStatus, PersonSummary};
pub use policy::CollectionPolicy;
pub use reembed::Switch;
pub use retention::Expired;
pub use schema::PendingMigration;
pub use serving::{ModelFaces, Serving};
pub use store::{CHUNK, Store};
pub use window::Window;
