//! Forms of parts, with a bound on what comes before a part's data. The reader of forms takes whatever is there each time that
//! it is asked, keeps what leads to no part, and looks through it again: here it gets a piece once it has looked at the one
//! before.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Body, BodyDataStream};
use axum::extract::multipart::{Field, MultipartError, MultipartRejection};
use axum::extract::{FromRequest, Multipart, Request};
use bytes::Bytes;
use futures_util::Stream;

/// Bytes before a part's data: its headers, and what comes before the first part.
const BEFORE_DATA: usize = 16 * 1024;

/// How often the reader is told to wait between two pieces: it may ask twice before it looks at what it has.
const LOOKS: u8 = 2;

/// The parts of a form, one at a time.
pub(crate) struct Parts {
    form: Multipart,
    turn: Arc<Mutex<Turn>>,
}

/// What the reader gets next.
#[derive(Debug)]
struct Turn {
    /// It is told to wait so often first.
    looks: u8,
    /// Bytes that may yet come before a part's data; none while such data are read.
    before_data: Option<usize>,
}

impl Parts {
    pub(crate) async fn of(request: Request) -> Result<Self, MultipartRejection> {
        let turn = Arc::new(Mutex::new(Turn { looks: 0, before_data: Some(BEFORE_DATA) }));
        let request = request.map(|body| {
            let body = body.into_data_stream();
            Body::from_stream(Pieces { body, rest: Bytes::new(), turn: Arc::clone(&turn) })
        });
        Ok(Self { form: Multipart::from_request(request, &()).await?, turn })
    }

    /// The next part. All of the one before has to be read.
    pub(crate) async fn part(&mut self) -> Result<Option<Field<'_>>, MultipartError> {
        *lock(&self.turn) = Turn { looks: LOOKS, before_data: Some(BEFORE_DATA) };
        let part = self.form.next_field().await;
        lock(&self.turn).before_data = None;
        part
    }
}

/// A body as the reader gets it.
struct Pieces {
    body: BodyDataStream,
    /// Of a piece that was handed on in part.
    rest: Bytes,
    turn: Arc<Mutex<Turn>>,
}

impl Stream for Pieces {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut turn = lock(&this.turn);
        if turn.looks > 0 {
            turn.looks -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if turn.before_data == Some(0) {
            let why = format!("no part's data begin within {BEFORE_DATA} bytes");
            return Poll::Ready(Some(Err(axum::Error::new(why))));
        }
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_next(cx)) {
                Some(Ok(piece)) => this.rest = piece,
                ended => return Poll::Ready(ended),
            }
        }
        let length = turn.before_data.unwrap_or(usize::MAX).min(this.rest.len());
        turn.before_data = turn.before_data.map(|left| left.saturating_sub(length));
        turn.looks = LOOKS;
        Poll::Ready(Some(Ok(this.rest.split_to(length))))
    }
}

fn lock(turn: &Mutex<Turn>) -> MutexGuard<'_, Turn> {
    turn.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::header::CONTENT_TYPE;
    use futures_util::{StreamExt, stream};

    use super::*;

    async fn form(pieces: impl Stream<Item = Vec<u8>> + Send + 'static) -> Parts {
        let body = Body::from_stream(pieces.map(Ok::<_, Infallible>));
        let request = axum::http::Request::builder().header(CONTENT_TYPE, "multipart/form-data; boundary=x");
        Parts::of(request.body(body).unwrap()).await.unwrap()
    }

    fn part(name: &str, data: &[u8]) -> Vec<u8> {
        let head = format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        [head.as_bytes(), data, b"\r\n"].concat()
    }

    /// With the number of pieces that were taken.
    fn counted(pieces: stream::Repeat<Vec<u8>>) -> (impl Stream<Item = Vec<u8>> + Send + 'static, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&taken);
        let count = move |_: &Vec<u8>| {
            counts.fetch_add(1, Ordering::Relaxed);
        };
        (pieces.inspect(count), taken)
    }

    /// Names and data.
    async fn read(mut form: Parts) -> Result<Vec<(String, Vec<u8>)>, MultipartError> {
        let mut parts = Vec::new();
        while let Some(mut part) = form.part().await? {
            let (name, mut data) = (part.name().unwrap().to_owned(), Vec::new());
            while let Some(piece) = part.chunk().await? {
                data.extend(piece);
            }
            parts.push((name, data));
        }
        Ok(parts)
    }

    #[tokio::test]
    async fn parts_are_the_same_however_they_come() {
        let large = vec![7; 3 * BEFORE_DATA];
        let body =
            [b"preamble\r\n".to_vec(), part("a", &large), part("b", b""), part("c", b"c"), b"--x--\r\n".to_vec()];
        let body = body.concat();
        let expected = [("a", large), ("b", Vec::new()), ("c", b"c".to_vec())];
        let expected = expected.map(|(name, data)| (name.to_owned(), data));
        for length in [1, 2, 3, 7, 100, BEFORE_DATA - 1, BEFORE_DATA, BEFORE_DATA + 1, body.len()] {
            let pieces: Vec<Vec<u8>> = body.chunks(length).map(<[u8]>::to_vec).collect();
            assert_eq!(read(form(stream::iter(pieces)).await).await.unwrap(), expected, "{length} bytes a piece");
        }
    }

    #[tokio::test]
    async fn a_part_whose_data_do_not_begin_is_refused_without_an_end_of_the_body() {
        let headers = b"--x\r\nContent-Disposition: form-data; name=".to_vec();
        for beginning in [Vec::new(), headers.clone(), [part("a", b"a"), headers].concat()] {
            for length in [100, 1000, 10 * BEFORE_DATA] {
                let (endless, taken) = counted(stream::repeat(vec![b'-'; length]));
                let body = stream::iter([beginning.clone()]).chain(endless);
                let refused = read(form(body).await).await.unwrap_err();
                assert_ne!(refused.status().as_u16(), 413, "{refused:?}");
                let taken = taken.load(Ordering::Relaxed) * length;
                assert!(taken < BEFORE_DATA + length, "{taken} bytes, {length} a piece");
            }
        }
        // As long as they may be.
        let letters = "a".repeat(BEFORE_DATA - part("", b"").len() + b"\r\n".len());
        let fits = [part(&letters, b"a"), b"--x--".to_vec()].concat();
        assert_eq!(read(form(stream::iter([fits])).await).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn no_more_is_taken_than_is_read() {
        const TAKEN: usize = 8;
        let (endless, taken) = counted(stream::repeat((0..100).flat_map(|_| part("a", b"a")).collect()));
        let mut form = form(endless).await;
        for _ in 0..100 * TAKEN {
            let mut part = form.part().await.unwrap().unwrap();
            while part.chunk().await.unwrap().is_some() {}
        }
        let taken = taken.load(Ordering::Relaxed);
        assert!((TAKEN..=TAKEN + 1).contains(&taken), "{taken} pieces for the parts of {TAKEN}");
    }
}
