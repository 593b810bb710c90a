//! How a service lives: actors with bounded inboxes, pipelines that start and end whole, supervision with backoff,
//! shutdown in two steps. It knows no NATS, no SQL, no ONNX; what flows through is a type parameter.
//!
//! Cancel and error policy of every actor, in one table:
//!
//! | actor | on drain | on an error or panic | holds when it is aborted |
//! | --- | --- | --- | --- |
//! | source | stops pulling, passes on what it has, drops its outbox | ends the pipeline | nothing acked: all comes back |
//! | worker (task or thread) | works until its inbox is closed and empty | ends the pipeline; so does a hang | items unacked: they come back |
//! | worker thread with a session | the same | opens the session anew; if that does not help, the pipeline drains for the grace period at most, all items are given back, then it ends | items unacked: they come back |
//! | sink | as a worker; publishes, waits for PubAcks, acks | ends the pipeline; so does a hang | unacked items come back, published ones are duplicates |
//!
//! A pipeline that ends by an error is aborted whole and built anew by [`supervise`]. What hangs is an actor that took
//! something from its inbox, or opens or closes a session, and made no progress for two minutes: it neither came back for more, nor
//! waited for room, nor learned from [`retry`] that a store is still down. A source has no inbox; each of its waits has its own limit. A task
//! that blocks every thread of the runtime stops the watchdog too: then the liveness endpoint does not answer.

pub mod health;
pub mod inbox;
pub mod live;
pub mod patience;
pub mod pipeline;
pub mod pool;
pub mod retry;
pub mod shutdown;
pub mod supervise;
mod watch;

pub use health::{Health, Held, State};
pub use inbox::{Closed, Inbox, Outbox, inbox};
pub use live::Live;
pub use patience::Patience;
pub use pipeline::{ActorError, Pipeline, PipelineError};
pub use pool::{GivenBack, Worked, Worker};
pub use retry::{Backoff, retry};
pub use shutdown::Shutdown;
pub use supervise::{RestartPolicy, Run, ServiceError, supervise};
pub use watch::for_room;
