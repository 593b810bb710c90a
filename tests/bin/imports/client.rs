//! An HTTP client that a plan needs: one request a connection, and a body that is sent piece by piece. Nothing else of HTTP.

use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::TIMEOUT;

/// Largest answer.
const LARGEST: u64 = 16 << 20;

/// Asks with a JSON body, or without one; the JSON of a success.
pub(crate) async fn call(at: SocketAddr, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let asked = async {
        let mut stream = TcpStream::connect(at).await?;
        stream.write_all(head.as_bytes()).await?;
        answer(&mut stream).await
    };
    timeout(TIMEOUT, asked).await.context("the gateway does not answer")?
}

/// A request whose body is sent in pieces.
pub(super) struct Upload(TcpStream);

impl Upload {
    pub(super) async fn begin(at: SocketAddr, path: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(at).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Type: application/x-ndjson\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        Ok(Self(stream))
    }

    /// Waits as long as the gateway does not read.
    pub(super) async fn piece(&mut self, bytes: &Bytes) -> anyhow::Result<()> {
        let head = format!("{:x}\r\n", bytes.len());
        let written = async {
            self.0.write_all(head.as_bytes()).await?;
            self.0.write_all(bytes).await?;
            self.0.write_all(b"\r\n").await
        };
        Ok(timeout(TIMEOUT, written).await.context("the gateway reads nothing")??)
    }

    pub(super) async fn end(mut self) -> anyhow::Result<Value> {
        self.0.write_all(b"0\r\n\r\n").await?;
        timeout(TIMEOUT, answer(&mut self.0)).await.context("the gateway does not answer")?
    }
}

async fn answer(stream: &mut TcpStream) -> anyhow::Result<Value> {
    let mut text = Vec::new();
    stream.take(LARGEST).read_to_end(&mut text).await?;
    let at = text.windows(4).position(|window| window == b"\r\n\r\n").context("the answer breaks off")?;
    let (head, body) = text.split_at(at + 4);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let is_success = head.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
    anyhow::ensure!(is_success, "{}", String::from_utf8_lossy(&text));
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    anyhow::ensure!(length == Some(body.len()), "the answer breaks off");
    Ok(serde_json::from_slice(body)?)
}
