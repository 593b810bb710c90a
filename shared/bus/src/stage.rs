//! A stage's two ends in a pipeline: the inbox of its workers, and the outbox for what became of each message.

use std::num::NonZeroUsize;

use facewire_domain::Stage;
use facewire_runtime::{Inbox, Outbox, Pipeline, Shutdown, inbox};

use crate::client::Bus;
use crate::delivery::{Delivery, Done};
use crate::inflight::InFlight;
use crate::options::StageOptions;
use crate::sink;
use crate::source::Source;

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
        let capacity = NonZeroUsize::new(options.inbox).unwrap_or(NonZeroUsize::MIN);
        let (out, work) = inbox("source->worker", capacity);
        let (finished, sinking) = inbox("worker->sink", capacity);
        let (in_flight, keeper) = InFlight::new(self.clone(), options.ack_wait);
        let source = Source {
            bus: self.clone(),
            stage,
            options: options.clone(),
            in_flight,
            out,
            sink: finished.clone(),
            drain: shutdown.token().clone(),
        };
        pipeline.spawn("source", async move { source.run().await.map_err(Into::into) });
        pipeline.spawn("keeper", async move { keeper.await.map_err(Into::into) });
        let (bus, in_flight, interval) = (self.clone(), options.sink_in_flight.max(1), options.sink_interval);
        pipeline.spawn("sink", async move {
            sink::run(bus, stage, sinking, in_flight, interval).await;
            Ok(())
        });
        (work, finished)
    }
}
