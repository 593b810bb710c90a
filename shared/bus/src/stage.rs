//! A stage's two ends in a pipeline: the inbox of its workers, and the outbox for what became of each message.

use std::num::NonZeroUsize;
use std::time::Duration;

use facewire_domain::Stage;
use facewire_runtime::{ActorError, Inbox, Outbox, Pipeline, Shutdown, inbox};
use facewire_telemetry::events;
use tokio_util::sync::CancellationToken;

use crate::client::Bus;
use crate::delivery::{Delivery, Done};
use crate::inflight::InFlight;
use crate::options::StageOptions;
use crate::sink;
use crate::source::Source;

/// Between two looks at how far the stage is behind.
const LAG_CHECK_INTERVAL: Duration = Duration::from_secs(5);

impl Bus {
    /// Adds source, sink and the keeper of `Progress` acks to a pipeline. The workers go between the two ends; when they
    /// drop the outbox, the sink finishes.
    pub fn stage(
        &self,
        pipeline: &mut Pipeline,
        stage: Stage,
        options: &StageOptions,
        shutdown: &Shutdown,
    ) -> (Inbox<Delivery>, Outbox<Done>) {
        self.stage_from(pipeline, stage, options, shutdown, std::future::ready(()))
    }

    /// The same for a pool whose device may be away: nothing is pulled before one of its threads has opened a session. What would
    /// be pulled without one has to be given back, and a full stream has no room for it.
    pub fn stage_once_opened(
        &self,
        pipeline: &mut Pipeline,
        stage: Stage,
        options: &StageOptions,
        shutdown: &Shutdown,
    ) -> (Inbox<Delivery>, Outbox<Done>) {
        let opened = pipeline.opened().clone().cancelled_owned();
        self.stage_from(pipeline, stage, options, shutdown, opened)
    }

    fn stage_from(
        &self,
        pipeline: &mut Pipeline,
        stage: Stage,
        options: &StageOptions,
        shutdown: &Shutdown,
        begins: impl Future<Output = ()> + Send + 'static,
    ) -> (Inbox<Delivery>, Outbox<Done>) {
        let capacity = NonZeroUsize::new(options.inbox).unwrap_or(NonZeroUsize::MIN);
        let (out, work) = inbox(format!("{stage}: source->worker"), capacity);
        let (finished, sinking) = inbox(format!("{stage}: worker->sink"), capacity);
        let (in_flight, keeper) = InFlight::new(self.clone(), options.ack_wait);
        let ends = (out, finished.clone());
        let source = Source::new(self.clone(), stage, options, in_flight, ends, shutdown);
        let drain = shutdown.token().clone();
        pipeline.spawn("source", async move {
            tokio::select! {
                () = begins => source.run().await.map_err(Into::into),
                () = drain.cancelled() => Ok(()),
            }
        });
        pipeline.spawn("observer", observe(self.clone(), stage, shutdown.token().clone()));
        pipeline.spawn("keeper", async move { keeper.await.map_err(Into::into) });
        let (bus, in_flight, interval) = (self.clone(), options.sink_in_flight.max(1), options.sink_interval);
        let shutdown = shutdown.clone();
        pipeline.spawn("sink", async move {
            sink::run(bus, stage, sinking, in_flight, interval, shutdown).await;
            Ok(())
        });
        (work, finished)
    }
}

/// Tells how far the stage is behind; while the server does not answer, that nobody knows it.
async fn observe(bus: Bus, stage: Stage, drain: CancellationToken) -> Result<(), ActorError> {
    events::StageReady { stage }.emit();
    while !drain.is_cancelled() {
        tokio::select! {
            () = drain.cancelled() => {}
            () = bus.tell_lag(events::WorkQueue::Stage(stage)) => {}
        }
        tokio::select! {
            () = drain.cancelled() => {}
            () = tokio::time::sleep(LAG_CHECK_INTERVAL) => {}
        }
    }
    Ok(())
}
