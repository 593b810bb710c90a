//! Ports on loopback: the one that was named, or a free one.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::error::StackError;

/// Ports tried before giving up.
const TRIES: usize = 32;

/// Below the range from which the kernel takes ports for outgoing connections (32768 and up on Linux): a server that is
/// stopped and started again finds its port still free.
const RANGE: std::ops::Range<u16> = 15_000..30_000;

/// Whether nobody listens on the port of 127.0.0.1 right now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// An address of loopback for a server that has to be told one before it can bind it, or that must find the same again
/// after a restart. Free right now, and nobody else's by chance: the kernel gives these ports to no outgoing connection.
///
/// # Errors
/// [`StackError::NoPort`] where every port that was tried is taken.
pub fn free_address(server: &'static str) -> Result<SocketAddr, StackError> {
    let port = candidate().ok_or(StackError::NoPort { server, tries: TRIES })?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

/// A port that is free right now.
pub(crate) fn candidate() -> Option<u16> {
    std::iter::repeat_with(random).take(TRIES).find(|port| is_free(*port))
}

fn random() -> u16 {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    let span = u64::from(RANGE.end - RANGE.start);
    RANGE.start + u16::try_from((high >> 16) % span).unwrap_or(0)
}

/// Runs `start` on the named port, or on free ones until it is not told that the port was taken meanwhile.
///
/// # Errors
/// What `start` says; [`StackError::NoPort`] after many losses.
pub(crate) fn with_port<T>(
    server: &'static str,
    named: Option<u16>,
    mut start: impl FnMut(u16) -> Result<T, StackError>,
) -> Result<T, StackError> {
    if let Some(port) = named {
        return start(port);
    }
    for _ in 0..TRIES {
        let Some(port) = candidate() else { break };
        match start(port) {
            Err(StackError::PortTaken { .. }) => {}
            other => return other,
        }
    }
    Err(StackError::NoPort { server, tries: TRIES })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That a free one is free shows in the next test. A port that was just let go is not asked about here: it is anybody's,
    /// and a process forked by another test holds the listener until its `exec`.
    #[test]
    fn a_taken_port_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
    }

    #[test]
    fn a_lost_race_is_run_again_only_where_no_port_was_named() {
        let mut calls = Vec::new();
        let won = with_port("x", None, |port| {
            calls.push(port);
            if calls.len() < 3 { Err(StackError::PortTaken { server: "x", port }) } else { Ok(port) }
        });
        assert_eq!(won.ok(), calls.last().copied());
        assert_eq!(calls.len(), 3);
        assert!(calls.iter().all(|port| RANGE.contains(port)));

        let lost = with_port("x", Some(4222), |port| Err::<(), _>(StackError::PortTaken { server: "x", port }));
        assert!(matches!(lost, Err(StackError::PortTaken { port: 4222, .. })));
    }
}
