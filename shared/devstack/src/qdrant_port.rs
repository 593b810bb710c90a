//! The in-process Qdrant on a port of loopback: the named one, or a free one.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dirs::make_dir;
use crate::error::StackError;
use crate::ports;
use crate::qdrant::{LocalQdrant, QdrantError};

/// Serves Qdrant's protocol from `dir` on the named port of 127.0.0.1 or a free one.
///
/// A server that stopped in this process a moment ago may seem to hold port and directory still: a child that some thread
/// forks just then has copies of its files until the exec. So a refusal counts only when it lasts.
pub(crate) async fn serve_in(dir: PathBuf, named: Option<u16>) -> Result<(LocalQdrant, u16), StackError> {
    make_dir(&dir, 0o700)?;
    let mut tries = 50;
    loop {
        match try_serve_in(&dir, named).await {
            Err(StackError::PortTaken { .. } | StackError::Qdrant(QdrantError::InUse { .. })) if tries > 0 => {
                tries -= 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
}

async fn try_serve_in(dir: &Path, named: Option<u16>) -> Result<(LocalQdrant, u16), StackError> {
    let port = match named {
        Some(port) if !ports::is_free(port) => return Err(StackError::PortTaken { server: "qdrant", port }),
        Some(port) => port,
        None => ports::candidate().ok_or(StackError::NoPort { server: "qdrant", tries: 1 })?,
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let started = LocalQdrant::start(dir, address).await;
    let server = started.map_err(|error| match error {
        QdrantError::Listen { source, .. } if source.kind() == ErrorKind::AddrInUse => {
            StackError::PortTaken { server: "qdrant", port }
        }
        other => StackError::Qdrant(other),
    })?;
    Ok((server, port))
}
