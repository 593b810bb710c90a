//! The journal of one collection: every acknowledged write since the last flush. `qdrant-edge` keeps a log of its own but
//! does not replay it, and flushing its segments for each batch costs a disk sync; so a write is appended here (it then
//! lies with the kernel and survives the death of this process) and replayed at the next start. A flush empties it.
//!
//! Entries name points by id, never by filter: replaying them over a later state ends in the same state.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use flate2::Crc;
use prost::Message as _;
use qdrant_client::qdrant::PointsUpdateOperation;

/// Bytes before each entry: its length and its CRC-32, both little endian.
const HEADER: usize = 8;
/// A longer entry cannot be one of ours: requests are limited to 64 MiB.
const MAX_ENTRY: usize = 128 * 1024 * 1024;

/// An append-only file of operations.
pub(super) struct Journal {
    file: File,
    bytes: u64,
}

impl Journal {
    /// Opens or creates the journal and hands what it holds to `replay`, oldest first. A torn last entry (the process
    /// died while writing it, so nobody was told that it was done) is cut off.
    pub(super) fn open(path: &Path, mut replay: impl FnMut(PointsUpdateOperation)) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut reader = BufReader::new(&file);
        let mut bytes = 0;
        while let Some((operation, length)) = entry(&mut reader)? {
            replay(operation);
            bytes += length;
        }
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))?;
        Ok(Self { file, bytes })
    }

    /// Appends an encoded operation. After an error the file is cut back, so that the next entry does not follow a torn
    /// one.
    pub(super) fn append(&mut self, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let mut entry = Vec::with_capacity(HEADER + body.len());
        entry.extend(length.to_le_bytes());
        entry.extend(checksum(body).to_le_bytes());
        entry.extend(body);
        if let Err(error) = self.file.write_all(&entry) {
            self.file.set_len(self.bytes)?;
            self.file.seek(SeekFrom::Start(self.bytes))?;
            return Err(error);
        }
        self.bytes += entry.len() as u64;
        Ok(())
    }

    /// Forgets everything: the segments have it on disk now.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.bytes = 0;
        Ok(())
    }

    /// Bytes since the last flush.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn checksum(body: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(body);
    crc.sum()
}

/// The next whole entry and its length with the header, or `None` at the end and at a torn one.
fn entry(reader: &mut impl Read) -> io::Result<Option<(PointsUpdateOperation, u64)>> {
    let (mut length, mut crc) = ([0; 4], [0; 4]);
    if !fill(reader, &mut length)? || !fill(reader, &mut crc)? {
        return Ok(None);
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_ENTRY {
        return Ok(None);
    }
    let mut body = vec![0; length];
    if !fill(reader, &mut body)? || checksum(&body) != u32::from_le_bytes(crc) {
        return Ok(None);
    }
    Ok(PointsUpdateOperation::decode(body.as_slice()).ok().map(|operation| (operation, (HEADER + length) as u64)))
}

/// Whether there was enough to fill the buffer.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qdrant_client::qdrant::points_update_operation::{DeletePoints, Operation};

    fn delete(id: u64) -> PointsUpdateOperation {
        let points = Some(vec![qdrant_client::qdrant::PointId::from(id)].into());
        PointsUpdateOperation {
            operation: Some(Operation::DeletePoints(DeletePoints { points, shard_key_selector: None })),
        }
    }

    fn open(path: &Path) -> (Journal, Vec<PointsUpdateOperation>) {
        let mut operations = Vec::new();
        let journal = Journal::open(path, |operation| operations.push(operation)).unwrap();
        (journal, operations)
    }

    fn append(journal: &mut Journal, id: u64) {
        journal.append(&delete(id).encode_to_vec()).unwrap();
    }

    #[test]
    fn what_was_appended_comes_back_and_a_torn_tail_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, before) = open(&path);
        assert!(before.is_empty());
        (1..=3).for_each(|id| append(&mut journal, id));
        let whole = journal.bytes();
        drop(journal);
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content.len() as u64, whole);
        for cut in 1..content.len() / 3 {
            std::fs::write(&path, &content[..content.len() - cut]).unwrap();
            let (mut journal, operations) = open(&path);
            assert_eq!(operations, [delete(1), delete(2)]);
            append(&mut journal, 9);
            assert_eq!(open(&path).1, [delete(1), delete(2), delete(9)]);
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_replay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, _) = open(&path);
        (1..=2).for_each(|id| append(&mut journal, id));
        let mut content = std::fs::read(&path).unwrap();
        *content.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &content).unwrap();
        assert_eq!(open(&path).1, [delete(1)]);
    }

    #[test]
    fn clearing_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, _) = open(&path);
        append(&mut journal, 1);
        journal.clear().unwrap();
        append(&mut journal, 2);
        assert_eq!(open(&path).1, [delete(2)]);
    }
}
