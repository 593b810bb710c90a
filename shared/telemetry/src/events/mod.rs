//! Operational events: each is a struct that says itself once, as a log line and as a metric. Events of single crops are told
//! at `debug`; their numbers are in the metrics and their stories in the traces and in Postgres.

mod crops;
mod http;
mod jobs;
mod messages;
mod reconciler;
mod services;

pub use crops::{BatchTaken, CropAdmitted, CropEnded, FaceEmbedded, FaceJudged, FaceMeasured, Searched, StageDone};
pub use http::{RequestAnswered, RequestRefused, Told, WebhookTold};
pub use jobs::{JobEnded, JobLost, JobRunning, JobsReady, PrototypesWaiting};
pub use messages::{
    ConsumerRecreated, DeadLettered, NotADelivery, PublishRetried, QueueLevel, QueueSeen, Redelivered, StageReady,
    StreamRefused, WorkQueue,
};
pub use reconciler::{DifferencesFound, Expired, ImagesCompared, PassDone, Reconciled};
pub use services::{
    Blocked, Busy, FailureKind, Inferred, PoolThread, ServiceFailed, ServiceStarted, SettingApplied, SettingRefused,
    StoreAnswered, StoreWaited, WorkerBroken,
};

use facewire_domain::{Reason, Stage};
use opentelemetry::KeyValue;

fn of_stage(stage: Stage) -> KeyValue {
    KeyValue::new("stage", stage.as_str())
}

fn of_reason(reason: Reason) -> KeyValue {
    KeyValue::new("reason", reason.as_str())
}
