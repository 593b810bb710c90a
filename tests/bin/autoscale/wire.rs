//! As much of NATS' protocol as a limit needs, on one blocking connection: nothing of the client or of the stage runtime is used, or
//! the limit would move with them. Only for measurements.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, anyhow};

/// Longest wait for the server.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that are read at a time.
const BUFFER: usize = 256 << 10;

/// A message, or the status that a server sends in its place.
pub(super) struct Delivered {
    /// Where an answer goes; empty where none is wanted.
    pub(super) reply: String,
    pub(super) payload: Vec<u8>,
    /// Of the headers' first line (`NATS/1.0 408 Request Timeout`); empty for a message.
    pub(super) status: String,
}

/// A connection.
pub(super) struct Wire {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    line: String,
    body: Vec<u8>,
}

impl Wire {
    /// Connects to `nats://host:port`.
    pub(super) fn connect(url: &str) -> anyhow::Result<Self> {
        let address = url.strip_prefix("nats://").context("not a NATS URL")?;
        let writer = TcpStream::connect(address)?;
        writer.set_nodelay(true)?;
        writer.set_read_timeout(Some(PATIENCE))?;
        writer.set_write_timeout(Some(PATIENCE))?;
        let reader = BufReader::with_capacity(BUFFER, writer.try_clone()?);
        let mut wire = Self { reader, writer, line: String::new(), body: Vec::new() };
        wire.send(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n")?;
        wire.settle()?;
        Ok(wire)
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.writer.write_all(bytes).map_err(|error| in_words(error, "nothing was taken"))
    }

    pub(super) fn subscribe(&mut self, subject: &str) -> anyhow::Result<()> {
        self.send(format!("SUB {subject} 1\r\n").as_bytes())?;
        self.settle()
    }

    /// Waits until the server has read everything; nothing else must be on its way.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        self.send(b"PING\r\n")?;
        while self.control()? != "PONG" {}
        Ok(())
    }

    /// The next message; its payload is a copy of its own.
    pub(super) fn receive(&mut self) -> anyhow::Result<Delivered> {
        loop {
            let line = self.control()?;
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["MSG", _, _, rest @ .., size] => return self.message(rest, "0", size),
                ["HMSG", _, _, rest @ .., headers, size] => return self.message(rest, headers, size),
                _ => {}
            }
        }
    }

    fn message(&mut self, reply: &[&str], headers: &str, size: &str) -> anyhow::Result<Delivered> {
        let (headers, size): (usize, usize) = (headers.parse()?, size.parse()?);
        // With the line break behind it.
        self.body.resize(size + 2, 0);
        self.reader.read_exact(&mut self.body).map_err(|error| in_words(error, "nothing came"))?;
        let head = self.body.get(..headers).context("a message breaks off")?;
        let first = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let status = String::from_utf8_lossy(first).trim_start_matches("NATS/1.0").trim().to_owned();
        let payload = self.body.get(headers..size).context("a message breaks off")?.to_vec();
        Ok(Delivered { reply: reply.first().map_or_else(String::new, |reply| (*reply).to_owned()), payload, status })
    }

    /// The next line of the protocol. A PING is answered.
    fn control(&mut self) -> anyhow::Result<String> {
        loop {
            self.line.clear();
            let read = self.reader.read_line(&mut self.line).map_err(|error| in_words(error, "nothing came"))?;
            anyhow::ensure!(read > 0, "the server closed the connection");
            match self.line.trim_end() {
                "PING" => self.writer.write_all(b"PONG\r\n")?,
                line if line.starts_with("-ERR") => anyhow::bail!("the server says {line}"),
                line => return Ok(line.to_owned()),
            }
        }
    }
}

/// Of a wait that was too long the system says only that a resource is unavailable.
fn in_words(error: std::io::Error, what: &str) -> anyhow::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => anyhow!("{what} for {} s", PATIENCE.as_secs()),
        _ => error.into(),
    }
}

/// A publish as it goes over the wire.
pub(super) fn publish(subject: &str, reply: &str, payload: &[u8]) -> Vec<u8> {
    let gap = if reply.is_empty() { "" } else { " " };
    let head = format!("PUB {subject}{gap}{reply} {}\r\n", payload.len());
    [head.as_bytes(), payload, b"\r\n"].concat()
}
