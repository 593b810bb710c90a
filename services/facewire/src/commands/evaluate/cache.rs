//! What was seen of pictures before, in one file for each model and version of the chain: appended to, never changed. Records
//! are checked as they are read, so that a run may be killed at any moment. Embeddings are biometric data: the files, and a folder
//! that is made for them, are their owner's alone.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use facewire_domain::ImageHash;

use super::seen::{Seen, decode, encode, key_of};

const MAGIC: &[u8; 16] = b"facewire seen 1\n";
/// Magic and the chain's hash.
const HEADER: u64 = 48;
/// A file is at most so long; one that is full is begun anew by the next run.
const MAX_BYTES: u64 = 512 << 20;
/// A record is at most so long.
const MAX_RECORD: u32 = 1 << 20;
/// Bytes of a record's checksum.
const SUM: usize = 8;
/// The longest record with its length and checksum: a file that lacks room for one is full.
const ROOM: u64 = 4 + MAX_RECORD as u64 + SUM as u64;
/// Files that stay: the ones used last.
const KEPT: usize = 4;
const EXTENSION: &str = "seen";

/// One file, open.
#[derive(Debug)]
pub(super) struct Cache {
    file: File,
    path: PathBuf,
    dim: usize,
    /// Where a record's bytes lie.
    index: HashMap<ImageHash, (u64, u32)>,
    end: u64,
    /// It is at most so long.
    max: u64,
    /// Nobody else is writing to it.
    ours: bool,
}

impl Cache {
    /// Opens or begins the file of a model and chain; `dim` numbers make an embedding. What a killed run left half written is
    /// cut off. A file that another process writes to is only read. A folder that is there keeps its rights: others may use it.
    pub(super) fn open(folder: &Path, model: &str, chain: &ImageHash, dim: usize) -> io::Result<Self> {
        Self::open_within(MAX_BYTES, folder, model, chain, dim)
    }

    fn open_within(max: u64, folder: &Path, model: &str, chain: &ImageHash, dim: usize) -> io::Result<Self> {
        if !folder.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let short: String = chain.to_string().chars().take(16).collect();
        let name: String = model.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        let path = folder.join(format!("{name}-{short}.{EXTENSION}"));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        let ours = file.try_lock().is_ok();
        let mut cache = Self { file, path, dim, index: HashMap::new(), end: 0, max, ours };
        cache.read(chain)?;
        if ours {
            cache.file.set_modified(SystemTime::now())?;
            sweep(folder);
        }
        Ok(cache)
    }

    /// Finds every whole record.
    fn read(&mut self, chain: &ImageHash) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let mut reader = BufReader::with_capacity(1 << 20, &self.file);
        let mut header = [0; HEADER as usize];
        let whole = reader.read_exact(&mut header).is_ok() && header == self::header(chain);
        if whole && length + ROOM <= self.max {
            let mut at = HEADER;
            while let Some((key, size)) = next(&mut reader) {
                self.index.insert(key, (at + 4, size));
                at += 4 + u64::from(size) + SUM as u64;
            }
            self.end = at;
            if self.ours && at < length {
                self.file.set_len(at)?;
            }
        } else if self.ours {
            self.file.set_len(0)?;
            self.file.write_all_at(&self::header(chain), 0)?;
            self.end = HEADER;
        }
        Ok(())
    }

    /// What was seen of a picture.
    pub(super) fn get(&self, key: &ImageHash) -> Option<Seen> {
        let (at, size) = self.index.get(key)?;
        let mut record = vec![0; *size as usize];
        self.file.read_exact_at(&mut record, *at).ok()?;
        // Another process may have begun the file anew meanwhile.
        let same = key_of(&record).is_some_and(|found| found == *key);
        same.then(|| decode(&record, self.dim)).flatten()
    }

    /// Notes what was seen; a full file takes nothing more.
    pub(super) fn put(&mut self, key: &ImageHash, seen: &Seen) -> anyhow::Result<()> {
        let record = encode(key, seen)?;
        let size = u32::try_from(record.len())?;
        let next = self.end + 4 + u64::from(size) + SUM as u64;
        if !self.ours || next > self.max || size > MAX_RECORD {
            return Ok(());
        }
        let mut whole = size.to_le_bytes().to_vec();
        whole.extend(&record);
        whole.extend(sum(&record));
        // One write, after the last whole record: what a full disk or a kill leaves of it is cut off by the next run.
        self.file.write_all_at(&whole, self.end)?;
        self.index.insert(*key, (self.end + 4, size));
        self.end = next;
        Ok(())
    }

    /// Pictures that are known.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn header(chain: &ImageHash) -> [u8; HEADER as usize] {
    let mut header = [0; HEADER as usize];
    let mut rest = header.as_mut_slice();
    // Both fit.
    let _ = rest.write_all(MAGIC).and_then(|()| rest.write_all(chain.as_bytes()));
    header
}

fn sum(record: &[u8]) -> [u8; SUM] {
    ImageHash::of(record).as_bytes().first_chunk::<SUM>().copied().unwrap_or_default()
}

/// The next whole record: its key and size.
fn next(reader: &mut impl Read) -> Option<(ImageHash, u32)> {
    let mut size = [0; 4];
    reader.read_exact(&mut size).ok()?;
    let size = u32::from_le_bytes(size);
    if size > MAX_RECORD {
        return None;
    }
    let (mut record, mut expected) = (vec![0; size as usize], [0; SUM]);
    reader.read_exact(&mut record).ok()?;
    reader.read_exact(&mut expected).ok()?;
    if sum(&record) != expected { None } else { Some((key_of(&record)?, size)) }
}

/// Removes the files that were not used for longest, unless somebody uses them. What cannot be removed stays.
fn sweep(folder: &Path) {
    let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == EXTENSION))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    files.sort();
    let old = files.len().saturating_sub(KEPT);
    for (_, path) in files.into_iter().take(old) {
        if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen::tests::{face, no_face};
    use super::*;
    use facewire_domain::Quality;

    fn chain() -> ImageHash {
        ImageHash::of(b"chain")
    }

    fn open(folder: &Path) -> Cache {
        Cache::open(folder, "pack@1:ab", &chain(), 2).unwrap()
    }

    fn key(number: u8) -> ImageHash {
        ImageHash::of(&[number])
    }

    #[test]
    fn what_was_put_is_there_in_the_next_run_and_for_its_owner_alone() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("evaluate");
        let seen = face(Quality::default(), [0.6, 0.8]);
        let path = {
            let mut cache = open(&folder);
            cache.put(&key(1), &seen).unwrap();
            cache.put(&key(2), &no_face()).unwrap();
            cache.path().to_owned()
        };
        let cache = open(&folder);
        assert_eq!((cache.len(), cache.get(&key(1)), cache.get(&key(2))), (2, Some(seen), Some(no_face())));
        assert_eq!(cache.get(&key(3)), None);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
        // Somebody's own folder, into which others may look.
        let shared = base.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o755)).unwrap();
        let path = open(&shared).path().to_owned();
        assert_eq!((mode(&shared), mode(&path)), (0o755, 0o600));
    }

    #[test]
    fn a_file_without_room_for_any_record_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Cache::open_within(HEADER + ROOM, folder.path(), "pack@1:ab", &chain(), 2).unwrap();
        let mut cache = open();
        cache.put(&key(1), &no_face()).unwrap();
        assert_eq!(cache.len(), 1);
        drop(cache);
        let mut cache = open();
        assert_eq!((cache.len(), cache.get(&key(1))), (0, None));
        cache.put(&key(2), &no_face()).unwrap();
        assert_eq!(cache.get(&key(2)), Some(no_face()));
    }

    #[test]
    fn a_damaged_tail_is_dropped_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = {
            let mut cache = open(folder.path());
            (1..=3).for_each(|n| cache.put(&key(n), &no_face()).unwrap());
            cache.path().to_owned()
        };
        let bytes = fs::read(&path).unwrap();
        for cut in [1, SUM, SUM + 5] {
            fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
            let mut cache = open(folder.path());
            assert_eq!((cache.len(), cache.get(&key(3))), (2, None), "{cut}");
            cache.put(&key(4), &no_face()).unwrap();
            drop(cache);
            assert_eq!(open(folder.path()).get(&key(4)), Some(no_face()));
        }
        let mut flipped = bytes.clone();
        let last = flipped.len() - SUM - 3;
        flipped[last] ^= 1;
        fs::write(&path, flipped).unwrap();
        assert_eq!(open(folder.path()).len(), 2);
        // A length from a damaged record is no order to take memory.
        fs::write(&path, [&bytes[..HEADER as usize], &[0xFF; 64]].concat()).unwrap();
        assert_eq!(open(folder.path()).len(), 0);
    }

    #[test]
    fn another_chain_has_another_file_and_a_foreign_one_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = open(folder.path());
        cache.put(&key(1), &no_face()).unwrap();
        assert_eq!(Cache::open(folder.path(), "pack@1:ab", &ImageHash::of(b"next"), 2).unwrap().len(), 0);
        let path = cache.path().to_owned();
        drop(cache);
        fs::write(&path, b"something else").unwrap();
        let mut cache = open(folder.path());
        assert_eq!(cache.len(), 0);
        cache.put(&key(1), &no_face()).unwrap();
        drop(cache);
        assert_eq!(open(folder.path()).len(), 1);
    }

    #[test]
    fn a_file_that_another_writes_to_is_only_read_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = open(folder.path());
        first.put(&key(1), &no_face()).unwrap();
        let mut second = open(folder.path());
        assert_eq!(second.get(&key(1)), Some(no_face()));
        second.put(&key(2), &no_face()).unwrap();
        assert_eq!((second.len(), second.get(&key(2))), (1, None));
        for n in 0..6 {
            Cache::open(folder.path(), "pack", &key(n), 2).unwrap();
        }
        // The one in use stays, however old.
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert!((KEPT..=KEPT + 1).contains(&left) && first.path().exists(), "{left}");
    }
}
