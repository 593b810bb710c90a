//! Signals to shutdown: the first asks everybody to finish, the second ends the process at once.

use facewire_runtime::Shutdown;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::output;

/// Status of a process that was told twice.
const AT_ONCE: i32 = 130;

/// Listens for SIGTERM and SIGINT from now on.
pub(crate) fn listen(shutdown: Shutdown) -> std::io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Owned by the process: it ends with it.
    tokio::spawn(async move {
        next(&mut term, &mut int).await;
        output::say("stopping: finishing what is in flight (once more to stop at once)");
        shutdown.drain();
        next(&mut term, &mut int).await;
        #[expect(clippy::exit, reason = "a second signal means now; what is unacked comes back")]
        std::process::exit(AT_ONCE);
    });
    Ok(())
}

async fn next(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
