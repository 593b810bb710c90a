//! Postgres, the truth: admitted crops, their endings, persons, enrolled faces (DESIGN §3, §4, §6). The only crate that
//! names sqlx. No vector engine, no queue and no rule of the domain may come in: what is decided here is only what has to
//! be decided where the rows are, such as who owned a name first.
//!
//! Writes take batches and are idempotent: a batch may hold duplicates and may be delivered again. A statement takes at
//! most [`CHUNK`] rows; each statement is whole or not at all, a longer batch is not.

mod calibrations;
mod cameras;
mod crops;
mod duty;
mod embedding;
mod endings;
mod enrol;
mod enrol_plan;
mod error;
mod faces;
mod failures;
mod ledger;
mod life;
mod measured;
mod options;
mod persons;
mod store;
mod window;

pub use calibrations::{CalibrationRow, NewCalibration, StoredCalibration};
pub use cameras::{CameraSum, Cause, SignalBounds, SignalSpread};
pub use crops::{Admission, CropHead, NewCrop};
pub use endings::{Ending, FaceQuality, Finished, StageTime};
pub use enrol::{ConflictKind, Enrolment, NewFace};
pub use error::StoreError;
pub use faces::{FaceRecord, StoredFace, VectorState};
pub use failures::{FailureCount, FailureFilter, FailureRow};
pub use ledger::{CameraLedger, Ledger, LedgerFilter};
pub use life::{CropLife, CropRecord, EndingRecord, FailureRecord};
pub use measured::{MeasuredFace, MeasuredPlace};
pub use options::Options;
pub use persons::{Gallery, Person, PersonStatus, PersonSummary};
pub use store::{CHUNK, Store};
pub use window::Window;
