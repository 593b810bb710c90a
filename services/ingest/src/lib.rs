//! The ingest stage: takes encoded crops from producers, judges signature, size and headers, gives each its id and its row,
//! and hands it on. Pixels are not decoded here.

mod examine;
mod keeping;

use std::num::NonZeroUsize;
use std::time::Duration;

use bytesize::ByteSize;
use examine::{Examined, examine};
use facewire_bus::{Batch, BatchOptions, Batches, Bus, Delivery, Done, Outgoing, StageOptions};
use facewire_contracts::v1;
use facewire_domain::{Reason, Stage};
use facewire_runtime::{ActorError, Outbox, Patience, Pipeline, RestartPolicy, Run, Shutdown, inbox, supervise};
use facewire_store_object::ImageStore;
use facewire_store_pg::{Admission, Store};
use facewire_telemetry::events;
use facewire_vision::DecodeLimits;
use serde::{Deserialize, Serialize};

use keeping::Keeping;

pub use examine::Limits;

/// What an operator may set of the stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// How it takes work.
    pub stage: StageOptions,
    /// Threads that hash and read headers.
    pub threads: usize,
    /// Rows written at a time.
    pub batch: usize,
    /// Least time between two batches: a crop that comes alone is written at once, under load a commit serves many.
    #[serde(with = "facewire_config::duration")]
    pub batch_interval: Duration,
    /// `image_too_large` above this many bytes.
    pub max_bytes: ByteSize,
    /// `image_too_large` above this many pixels.
    pub max_pixels: u64,
    /// `image_too_small` where the shorter side has fewer pixels.
    pub min_side: u32,
}

impl Default for Options {
    fn default() -> Self {
        let limits = DecodeLimits::default();
        Self {
            stage: StageOptions::images(),
            threads: 1,
            batch: 128,
            batch_interval: Duration::from_millis(50),
            max_bytes: ByteSize::mib(10),
            max_pixels: limits.max_pixels,
            min_side: limits.min_side,
        }
    }
}

/// The service and what it needs.
#[derive(Debug, Clone)]
pub struct Ingest {
    /// NATS.
    pub bus: Bus,
    /// Postgres.
    pub store: Store,
    /// Where kept originals go; `None`: no collection may keep any.
    pub images: Option<ImageStore>,
    /// Its options.
    pub options: Options,
}

const SERVICE: &str = Stage::Ingest.service();

impl Ingest {
    /// Runs until the shutdown, restarting its pipeline when an actor fails.
    pub fn run(self, shutdown: Shutdown) -> Run {
        Box::pin(
            async move { supervise(SERVICE, RestartPolicy::default(), &shutdown, || self.pipeline(&shutdown)).await },
        )
    }

    async fn pipeline(&self, shutdown: &Shutdown) -> Result<Pipeline, ActorError> {
        self.bus.check_stage(Stage::Ingest, &self.options.stage).await?;
        let mut pipeline = Pipeline::new();
        let options = &self.options;
        let (work, done) = self.bus.stage(&mut pipeline, Stage::Ingest, &options.stage, shutdown);
        let capacity = NonZeroUsize::new(options.stage.inbox).unwrap_or(NonZeroUsize::MIN);
        let (examined, registering) = inbox("ingest: examine->register", capacity);
        let limits = Limits {
            max_bytes: options.max_bytes.as_u64(),
            decode: DecodeLimits {
                max_pixels: options.max_pixels,
                min_side: options.min_side,
                ..DecodeLimits::default()
            },
        };
        let refused = done.clone();
        pipeline.spawn_pool(
            "examine",
            options.threads,
            work,
            move |delivery| examine(delivery, &limits),
            move |judged| {
                let handed_on = match judged {
                    Ok(crop) => examined.blocking_send(crop),
                    Err(dead) => refused.blocking_send(dead),
                };
                Ok(handed_on?)
            },
        )?;
        let batches = Batches::new(
            registering,
            |examined| &examined.delivery,
            BatchOptions {
                stage: Stage::Ingest,
                span: "admit batch",
                size: options.batch,
                interval: options.batch_interval,
            },
        );
        let patience = Patience::new(SERVICE, shutdown);
        let keeping = Keeping::new(self.store.clone(), self.images.clone(), patience.clone());
        pipeline.spawn("register", register(self.store.clone(), patience, keeping, batches, done));
        Ok(pipeline)
    }
}

/// Writes the rows of a batch, then hands each crop on.
async fn register(
    store: Store,
    patience: Patience,
    mut keeping: Keeping,
    mut batches: Batches<Box<Examined>>,
    done: Outbox<Done>,
) -> Result<(), ActorError> {
    while let Some(Batch { mut items, span }) = batches.next().await {
        let rows: Vec<_> = items.iter().map(|examined| examined.row.clone()).collect();
        let admitted = async { Ok::<_, ActorError>(patience.wait(|| store.admit(&rows)).await?) };
        let kept = keeping.keep(items.iter_mut().map(|examined| &mut **examined));
        let (admissions, ()) = tokio::try_join!(admitted, kept)?;
        for (examined, admission) in items.into_iter().zip(admissions) {
            let admission = match admission {
                Ok(admission) => admission,
                Err(error) => {
                    let Examined { delivery, task, .. } = *examined;
                    done.send(given_up(delivery, task.crop, &error.to_string())).await?;
                    continue;
                }
            };
            if admission == Admission::New {
                let head = &examined.row.head;
                events::CropAdmitted { collection: head.collection.as_str(), camera: head.camera.as_str() }.emit();
            }
            done.send(hand_on(*examined, admission)).await?;
        }
        drop(span);
        keeping.renew().await;
    }
    Ok(())
}

fn hand_on(examined: Examined, admission: Admission) -> Done {
    let Examined { delivery, mut task, refusal, .. } = examined;
    if let (Admission::Failed, Some(crop)) = (admission, &mut task.crop) {
        crop.attempt = delivery.sequence;
    }
    let outgoing = match (admission, refusal, task.crop.clone()) {
        // Published once more by its producer, long after it ended: there is nothing left to do.
        (Admission::Ended, ..) => Vec::new(),
        (Admission::OtherIntent { first }, ..) => {
            let before = format!("with the intent {first}, or for another subject");
            return wanted_otherwise(delivery, task.crop, &before);
        }
        (Admission::OtherFrame { first }, ..) => {
            let before = if first { "as a frame" } else { "as a crop, and not as a frame" };
            return wanted_otherwise(delivery, task.crop, before);
        }
        (Admission::Refused, ..) => {
            return wanted_otherwise(delivery, task.crop, "and refused for its headers, or for whom it was to enrol");
        }
        (admission, refusal, Some(crop)) => {
            let (to, outgoing) = match refusal {
                Some(outcome) => (Stage::Enrich, Outgoing::ending(crop, None, outcome.into())),
                None => (Stage::Quality, Outgoing::work(Stage::Quality, &crop, &task)),
            };
            // The streams know for a while what went through them, also where its rows were deleted since.
            let is_new = admission == Admission::New;
            vec![if is_new { outgoing.or_as(to, delivery.sequence) } else { outgoing }]
        }
        (_, _, None) => return given_up(delivery, None, "the crop was not filled in"),
    };
    delivery.done(outgoing)
}

/// The message is given up, and its crop ends as failed. `examine` always sets the crop: it was hashed on a thread for that.
fn given_up(delivery: Delivery, crop: Option<v1::Crop>, error: &str) -> Done {
    match crop {
        Some(crop) => delivery.dead_of(crop, Stage::Ingest, Reason::Internal, error),
        None => delivery.dead_letter_only(None, Stage::Ingest, Reason::Internal, error),
    }
}

/// The crop's id does not contain what is wanted of it, so that the ending of the first stays: whoever asks again is told.
fn wanted_otherwise(delivery: Delivery, crop: Option<v1::Crop>, before: &str) -> Done {
    let error =
        format!("the same crop was admitted before {before}: publish it with a Facewire-Captured-At of its own");
    delivery.dead_letter_only(crop, Stage::Ingest, Reason::InvalidMessage, &error)
}
