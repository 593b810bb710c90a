//! What Facewire talks about: ids, the stage list, intents, endings and their reasons, quality and its limits,
//! the decision who a probe is. Pure values and rules. No I/O, no clock, no tokio, no wire format may come in.

pub mod decision;
pub mod geometry;
pub mod ids;
pub mod outcome;
pub mod quality;
pub mod stage;

pub use decision::{Candidate, Decision, Hit, decide};
pub use geometry::{BoundingBox, Landmarks, Point};
pub use ids::{CameraId, CollectionId, CropId, FaceId, ImageHash, InvalidName, PersonId, SubjectId};
pub use outcome::{Detail, Intent, Outcome, Reason, Status, decimal};
pub use quality::{GateLimits, Pose, Quality, Refusal};
pub use stage::Stage;
