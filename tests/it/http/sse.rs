//! Server-sent events as a client reads them: over a connection of its own, while they come.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::Http;
use crate::chain::in_time;

/// An open stream of events; it is closed with its owner.
pub(crate) struct Events {
    stream: TcpStream,
    text: Vec<u8>,
}

impl Events {
    /// Asks for them, and reads until they were let in.
    pub(crate) async fn open(http: &Http, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut stream = TcpStream::connect(http.authority()).await.unwrap();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut events = Self { stream, text: Vec::new() };
        events.until("text/event-stream").await;
        events
    }

    /// All that came, once these words are in it.
    pub(crate) async fn until(&mut self, words: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&self.text);
            if text.contains(words) {
                return text.into_owned();
            }
            let read = in_time(words, self.stream.read(&mut buffer)).await.unwrap();
            assert!(read > 0, "the events ended: {text}");
            self.text.extend(&buffer[..read]);
        }
    }

    /// What comes up to their end.
    pub(crate) async fn rest(mut self) -> String {
        let mut rest = String::new();
        in_time("the end of the events", self.stream.read_to_string(&mut rest)).await.unwrap();
        rest
    }
}
