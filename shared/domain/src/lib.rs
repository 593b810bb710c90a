//! What Facewire talks about: ids, the stage list, intents, endings and their reasons, the signals of a face and the
//! gate, calibrations, the decision who a probe is, jobs and their parameters. Pure values and rules.

pub mod calibrated;
pub mod calibration;
pub mod decision;
pub mod erase;
pub mod export;
pub mod fault;
pub mod gate;
pub mod geometry;
pub mod ids;
pub mod job;
pub mod model;
pub mod moment;
pub mod outcome;
pub mod policy;
mod quality;
pub mod scope;
pub mod score;
pub mod signals;
pub mod stage;
pub mod training;

pub use calibrated::{CalibratedGate, CalibratedGates};
pub use calibration::{Calibration, Confidence, FmrPoint};
pub use decision::{Candidate, Decision, Hit, Rule, cosine, decide, nearest};
pub use erase::EraseParams;
pub use export::ExportParams;
pub use fault::{Fault, FaultKind};
pub use gate::{Gate, Refusal};
pub use geometry::{BoundingBox, Landmarks, Point};
pub use ids::{CameraId, ClusterId, CollectionId, CropId, FaceId, ImageHash, InvalidName, JobId, PersonId, SubjectId};
pub use job::{
    AssignParams, ClusterMethod, ClusterParams, EXEMPLARS, JobKind, JobState, ParamError, PrototypesParams, UnknownWord,
};
pub use outcome::{Detail, Intent, Outcome, Reason, Status, decimal};
pub use policy::{Against, KeepFaces, KeepImages};
pub use scope::{Scope, UnknownScope};
pub use score::{Logit, ScoreModel, Shape, Term};
pub use signals::{Bound, GateLimits, GateOverride, Quality, Side, Signal, SignalCheck, SignalSpec};
pub use stage::Stage;
pub use training::{HeadState, TrainLoss, TrainParams};
