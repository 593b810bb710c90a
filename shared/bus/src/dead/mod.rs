//! The stream DEAD for operators: reading its letters, putting an original back once, removing letters. Why a message
//! died is the letter's matter; whether it should come back is the operator's, and must not be decided here.

mod entry;
mod original;
mod reader;

use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use facewire_contracts::{headers, subjects};

use crate::client::{Bus, Published};
use crate::error::{BusError, refused};

pub use entry::{DeadFilter, DeadLetterEntry};
pub use reader::DeadReader;

/// An original that was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Where it went: where it was first published.
    pub subject: String,
    /// The PubAck. A duplicate: somebody put the same letter back a moment ago, and this call added nothing.
    pub published: Published,
}

/// A handle to DEAD.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    bus: Bus,
    stream: Stream,
}

impl Bus {
    /// Opens DEAD.
    ///
    /// # Errors
    /// [`BusError::Refused`] where there is no such stream yet or the server does not answer.
    pub async fn dead_letters(&self) -> Result<DeadLetters, BusError> {
        let stream = self.stream(subjects::DEAD).await?;
        Ok(DeadLetters { bus: self.clone(), stream })
    }
}

impl DeadLetters {
    /// Reads the letters that there are now and that fit, oldest first. Letters that come later are not read, so that
    /// whoever replays what he reads has an end even if everything dies again.
    ///
    /// # Errors
    /// [`BusError::Refused`].
    pub async fn read(&self, filter: DeadFilter) -> Result<DeadReader, BusError> {
        DeadReader::open(self.bus.options(), &self.stream, filter).await
    }

    /// The numbers of the letters that [`DeadLetters::read`] would read.
    ///
    /// # Errors
    /// As [`DeadLetters::read`] and [`DeadReader::next`].
    pub async fn sequences(&self, filter: DeadFilter) -> Result<Vec<u64>, BusError> {
        let mut reader = self.read(filter).await?;
        let mut sequences = Vec::new();
        while let Some(entry) = reader.next().await? {
            sequences.push(entry.sequence);
        }
        Ok(sequences)
    }

    /// One letter.
    ///
    /// # Errors
    /// [`BusError::NoLetter`], [`BusError::Refused`].
    pub async fn get(&self, sequence: u64) -> Result<DeadLetterEntry, BusError> {
        // Zero is no number of any message, and the server would read it as "none given".
        if sequence == 0 {
            return Err(BusError::NoLetter { sequence });
        }
        match self.stream.get_raw_message(sequence).await {
            Ok(found) => {
                let id = found.headers.get(headers::MSG_ID).map(|value| value.as_str().to_owned());
                Ok(DeadLetterEntry::new(sequence, &found.subject, id.as_deref(), found.time, found.payload))
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Err(BusError::NoLetter { sequence }),
            Err(error) => Err(refused("to read a dead letter", error)),
        }
    }

    /// Puts the original back where it was first published, waits for the PubAck, then removes the letter. The message
    /// id is the letter's own: whoever replays the same letter again, after a lost PubAck or beside another operator, adds
    /// nothing within the duplicate window; after it the letter is gone.
    ///
    /// # Errors
    /// [`BusError::NoLetter`]; [`BusError::NoOriginal`] and [`BusError::NotALetter`], and then the letter stays; what
    /// [`Bus::publish`] says, and then it stays too; [`BusError::LetterRemains`].
    pub async fn replay(&self, sequence: u64) -> Result<Replayed, BusError> {
        let entry = self.get(sequence).await?;
        let mut original = original::of(entry)?;
        // The numbers of a stream that was made anew start again: its birth is part of the name.
        let born = self.stream.cached_info().created.unix_timestamp_nanos();
        original.headers.insert(headers::MSG_ID, format!("replay:{}:{born}:{sequence}", subjects::DEAD));
        let published = self.bus.publish_as(&original.subject, original.headers, original.payload).await?;
        match self.remove(sequence).await {
            // Gone already: another operator's replay came to its end first.
            Ok(()) | Err(BusError::NoLetter { .. }) => Ok(Replayed { subject: original.subject, published }),
            Err(error) => Err(BusError::LetterRemains { sequence, error: error.to_string() }),
        }
    }

    /// Removes a letter for good; the server also overwrites it on its disk.
    ///
    /// # Errors
    /// [`BusError::NoLetter`], [`BusError::Refused`].
    pub async fn remove(&self, sequence: u64) -> Result<(), BusError> {
        let refusal = match self.stream.delete_message(sequence).await {
            Ok(true) => return Ok(()),
            Ok(false) => "the server did not delete it".to_owned(),
            Err(error) => error.to_string(),
        };
        // The server has no code of its own for "there is none".
        self.get(sequence).await?;
        Err(refused("to remove a dead letter", refusal))
    }
}
