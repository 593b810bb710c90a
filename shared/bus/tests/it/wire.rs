//! A connection without a client: it writes header blocks that no client would, and takes messages that none can read.

use std::time::Duration;

use facewire_contracts::subjects;
use facewire_domain::Stage;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::world::World;

/// Where what is pulled arrives.
const INBOX: &str = "_INBOX.wire";

pub(crate) struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    pub(crate) async fn connect(world: &World) -> Self {
        let url = world.nats.url();
        let stream = TcpStream::connect(url.strip_prefix("nats://").unwrap()).await.unwrap();
        let mut wire = Self { stream: BufReader::new(stream) };
        wire.send(b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":false}\r\n").await;
        wire
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.stream.read_line(&mut line).await.unwrap() > 0, "the server closed the connection");
        assert!(!line.starts_with("-ERR"), "{line}");
        line.trim_end().to_owned()
    }

    /// Publishes a header block as it is; the server has it when this returns.
    pub(crate) async fn publish_block(&mut self, subject: &str, headers: &[u8], payload: &[u8]) {
        let line = format!("HPUB {subject} {} {}\r\n", headers.len(), headers.len() + payload.len());
        self.send(&[line.as_bytes(), headers, payload, b"\r\nPING\r\n"].concat()).await;
        while self.line().await != "PONG" {}
    }

    /// Takes the next message of a stage, as one of its instances would; where its acks go.
    pub(crate) async fn take(&mut self, stage: Stage) -> String {
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", stage.stream(), subjects::consumer(stage));
        let asked = r#"{"batch":1,"expires":30000000000}"#;
        let lines = format!("SUB {INBOX} 1\r\nPUB {next} {INBOX} {}\r\n{asked}\r\n", asked.len());
        self.send(lines.as_bytes()).await;
        loop {
            let line = self.line().await;
            let words: Vec<&str> = line.split(' ').collect();
            if let ["HMSG", _, _, reply, _, size] = words.as_slice() {
                let mut message = vec![0; size.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut message).await.unwrap();
                return (*reply).to_owned();
            }
        }
    }

    /// Gives back what was taken; the server knows it when this returns.
    pub(crate) async fn nak(&mut self, reply: &str) {
        self.send(format!("PUB {reply} 4\r\n-NAK\r\nPING\r\n").as_bytes()).await;
        while self.line().await != "PONG" {}
    }

    /// Says again and again that a message is worked on.
    pub(crate) async fn keep(mut self, reply: String, every: Duration) {
        loop {
            self.send(format!("PUB {reply} 4\r\n+WPI\r\n").as_bytes()).await;
            sleep(every).await;
        }
    }
}
