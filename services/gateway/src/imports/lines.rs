//! A body of lines: cut at line breaks, one line in memory at a time, and one that is too long is passed over. What a line
//! says is read elsewhere.

use bytes::{Bytes, BytesMut};

use super::item::{self, Wrong};
use super::pace::{Paced, Patience};
use super::take::Taker;
use crate::App;
use crate::error::{ApiError, Code};

/// Bytes of a line beside its image.
const REST: u64 = 64 * 1024;

/// One line.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    Text(Bytes),
    /// It is passed over.
    TooLong,
}

/// Takes every line as an item.
pub(super) async fn take(app: &App, body: Paced, taker: &mut Taker<'_>) -> Result<(), ApiError> {
    let most = app.options.max_image.as_u64();
    let longest = most.div_ceil(3).saturating_mul(4).saturating_add(REST);
    // One item has the time of a request.
    let mut patience = Patience::new(app.options.request_timeout, body.read());
    let mut lines = Lines { body, cut: Cut::new(usize::try_from(longest).unwrap_or(usize::MAX)) };
    let mut number = 0;
    loop {
        let Some(line) = patience.wait(lines.next()).await?? else { return Ok(()) };
        number += 1;
        let text = match line {
            Line::TooLong => {
                let why = format!("a line has at most {longest} bytes (gateway.max_image)");
                taker.refuse(Some(number), None, &ApiError::new(Code::PayloadTooLarge, why));
                // Nothing but an image makes a line so long.
                patience.renew();
                continue;
            }
            Line::Text(text) if text.trim_ascii().is_empty() => continue,
            Line::Text(text) => text,
        };
        let read = tokio::task::spawn_blocking(move || item::with_image(number, &text, most)).await;
        match read.map_err(ApiError::internal)? {
            Ok(item) => taker.take(item).await?,
            Err(Wrong { item: None, error }) => {
                taker.refuse(Some(number), None, &error);
                continue;
            }
            Err(Wrong { item, error }) => taker.refuse(Some(number), item, &error),
        }
        patience.renew();
    }
}

struct Lines {
    body: Paced,
    cut: Cut,
}

impl Lines {
    async fn next(&mut self) -> Result<Option<Line>, ApiError> {
        loop {
            if let Some(line) = self.cut.line() {
                return Ok(Some(line));
            }
            match self.body.piece().await? {
                Some(piece) => self.cut.add(&piece),
                None => return Ok(self.cut.rest()),
            }
        }
    }
}

/// Bytes, cut into lines.
#[derive(Debug)]
pub(super) struct Cut {
    buffer: BytesMut,
    /// So many bytes at its beginning hold no line break.
    looked: usize,
    longest: usize,
    /// The beginning of the line is gone.
    is_too_long: bool,
}

impl Cut {
    pub(super) fn new(longest: usize) -> Self {
        Self { buffer: BytesMut::new(), looked: 0, longest, is_too_long: false }
    }

    pub(super) fn add(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next line that is whole.
    pub(super) fn line(&mut self) -> Option<Line> {
        let unseen = self.buffer.get(self.looked..).unwrap_or_default();
        let Some(at) = unseen.iter().position(|byte| *byte == b'\n') else {
            self.looked = self.buffer.len();
            if self.looked > self.longest {
                self.is_too_long = true;
                self.buffer.clear();
                self.looked = 0;
            }
            return None;
        };
        let mut line = self.buffer.split_to(self.looked + at + 1);
        line.truncate(line.len() - 1);
        self.looked = 0;
        Some(self.told(line))
    }

    /// What is left at the end, where it is anything.
    pub(super) fn rest(&mut self) -> Option<Line> {
        let line = self.buffer.split();
        self.looked = 0;
        if line.is_empty() && !self.is_too_long { None } else { Some(self.told(line)) }
    }

    fn told(&mut self, line: BytesMut) -> Line {
        let is_too_long = std::mem::take(&mut self.is_too_long) || line.len() > self.longest;
        if is_too_long { Line::TooLong } else { Line::Text(line.freeze()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &[u8], pieces: usize) -> Vec<Line> {
        let mut cut = Cut::new(4);
        let mut lines = Vec::new();
        for piece in text.chunks(pieces) {
            cut.add(piece);
            lines.extend(std::iter::from_fn(|| cut.line()));
        }
        lines.extend(cut.rest());
        lines
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        let line = |text: &'static [u8]| Line::Text(Bytes::from_static(text));
        let expected = [line(b"ab"), line(b""), Line::TooLong, line(b"abcd"), Line::TooLong];
        for pieces in 1..30 {
            assert_eq!(cut(b"ab\n\nabcdefghijkl\nabcd\nabcde", pieces), expected, "{pieces}");
        }
        assert!(cut(b"", 1).is_empty());
        assert_eq!(cut(b"ab\n", 2), [line(b"ab")], "a last line break begins no line");
    }
}
