//! A producer that is held by no library: it writes the bytes of `HPUB` itself, so that headers may be anything, and
//! reads the PubAck.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::corpus::Hostile;
use crate::chain::in_time;

/// Where PubAcks come.
const INBOX: &str = "_INBOX.hostile";

/// A connection of its own.
pub(crate) struct Producer(BufReader<TcpStream>);

impl Producer {
    pub(crate) async fn connect(nats_url: &str) -> Self {
        let address = nats_url.strip_prefix("nats://").unwrap();
        let mut producer = Self(BufReader::new(TcpStream::connect(address).await.unwrap()));
        let hello = "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":false}\r\n";
        producer.say(format!("{hello}SUB {INBOX} 1\r\nPING\r\n").as_bytes()).await;
        while producer.line().await != "PONG" {}
        producer
    }

    async fn say(&mut self, bytes: &[u8]) {
        in_time("room in the NATS connection", self.0.get_mut().write_all(bytes)).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = in_time("a line of the NATS server", self.0.read_line(&mut line)).await.unwrap();
        assert!(read > 0, "the NATS server closed the connection");
        line.trim_end().to_owned()
    }

    /// Whether the stream took it.
    pub(crate) async fn publish(&mut self, input: &Hostile) -> Result<(), String> {
        let mut headers = b"NATS/1.0\r\n".to_vec();
        for (name, value) in &input.headers {
            headers.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        headers.extend(b"\r\n");
        self.publish_block(&input.subject, &headers, &input.payload).await
    }

    /// The same with a header block that is written as it is.
    pub(crate) async fn publish_block(&mut self, subject: &str, headers: &[u8], payload: &[u8]) -> Result<(), String> {
        let (head, total) = (headers.len(), headers.len() + payload.len());
        let line = format!("HPUB {subject} {INBOX} {head} {total}\r\n");
        self.say(&[line.as_bytes(), headers, payload, b"\r\n"].concat()).await;
        loop {
            let line = self.line().await;
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words.as_slice() {
                ["MSG" | "HMSG", .., bytes] => {
                    let mut ack = vec![0; bytes.parse::<usize>().unwrap() + "\r\n".len()];
                    in_time("a PubAck", self.0.read_exact(&mut ack)).await.unwrap();
                    let ack = String::from_utf8_lossy(&ack).into_owned();
                    return if ack.contains("\"error\"") { Err(ack) } else { Ok(()) };
                }
                ["PING"] => self.say(b"PONG\r\n").await,
                [word, ..] => assert_ne!(*word, "-ERR", "{subject}: {line}"),
                [] => {}
            }
        }
    }
}
