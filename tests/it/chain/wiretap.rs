//! A plain NATS subscriber over TCP, as any client is: it needs no library, and hears what JetStream's streams hear.

use facewire_contracts::{Message as _, v1};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::in_time;

/// Hears every message on a subject from now on.
pub(crate) struct Wiretap {
    connection: BufReader<TcpStream>,
}

impl Wiretap {
    /// Subscribed when it returns. Without headers: the server then sends the payload alone.
    pub(crate) async fn on(nats_url: &str, subject: &str) -> Self {
        let address = nats_url.strip_prefix("nats://").unwrap();
        let mut tap = Self { connection: BufReader::new(TcpStream::connect(address).await.unwrap()) };
        tap.say(&format!("CONNECT {{\"verbose\":false,\"headers\":false}}\r\nSUB {subject} 1\r\nPING\r\n")).await;
        while tap.line().await != "PONG" {}
        tap
    }

    async fn say(&mut self, text: &str) {
        self.connection.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = in_time("a line of the NATS server", self.connection.read_line(&mut line)).await.unwrap();
        assert!(read > 0, "the NATS server closed the connection");
        line.trim_end().to_owned()
    }

    /// Subject and payload of the next message: `MSG <subject> <sid> [reply] <bytes>`.
    pub(crate) async fn next(&mut self) -> (String, Vec<u8>) {
        loop {
            let line = self.line().await;
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words.as_slice() {
                ["MSG", subject, .., bytes] => {
                    let mut payload = vec![0; bytes.parse::<usize>().unwrap() + "\r\n".len()];
                    in_time("a payload", self.connection.read_exact(&mut payload)).await.unwrap();
                    payload.truncate(payload.len() - "\r\n".len());
                    return ((*subject).to_owned(), payload);
                }
                ["PING"] => self.say("PONG\r\n").await,
                other => assert_ne!(other.first(), Some(&"-ERR"), "{line}"),
            }
        }
    }

    /// Asks the server's API on `subject`, to be answered on the subject that this one hears.
    pub(crate) async fn ask(&mut self, subject: &str, heard: &str, body: &str) -> serde_json::Value {
        self.say(&format!("PUB {subject} {heard} {}\r\n{body}\r\n", body.len())).await;
        serde_json::from_slice(&self.next().await.1).unwrap()
    }

    /// The next message as a letter of the stream DEAD.
    pub(crate) async fn letter(&mut self) -> (String, v1::DeadLetter) {
        let (subject, payload) = self.next().await;
        (subject, v1::DeadLetter::decode(payload.as_slice()).unwrap())
    }
}
