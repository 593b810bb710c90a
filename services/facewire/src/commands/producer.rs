//! What a producer does, whoever it is: finds image files, and makes of each a message as DESIGN §2 describes it.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use bytes::Bytes;
use facewire_bus::Message;
use facewire_contracts::{ProducerHeaders, headers, subjects};
use facewire_domain::{CameraId, CollectionId, CropId, ImageHash, Stage};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// File names that end so are taken from a directory.
const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Where crops go, and what is said of each.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) collection: CollectionId,
    pub(crate) camera: CameraId,
    /// All but the time.
    headers: Vec<(&'static str, String)>,
}

/// A crop that is ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Crop {
    /// As its results will name it.
    pub(crate) id: CropId,
    pub(crate) message: Message,
}

impl Target {
    /// Checks the headers by the rules of the stage that reads them, so that a mistake shows before anything is sent.
    pub(crate) fn new(
        collection: CollectionId,
        camera: CameraId,
        headers: Vec<(&'static str, String)>,
    ) -> anyhow::Result<Self> {
        let find = |name| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
        match ProducerHeaders::parse(find).1 {
            Some(error) => bail!(error),
            None => Ok(Self { collection, camera, headers }),
        }
    }

    /// Where the crops go.
    pub(crate) fn subject(&self) -> String {
        subjects::crops(&self.collection, &self.camera)
    }

    /// A hash of what is said of each crop; no header has a zero in it.
    pub(crate) fn said(&self) -> String {
        let parts = self.headers.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        ImageHash::of(&parts.flat_map(|part| part.iter().copied().chain([0])).collect::<Vec<u8>>()).to_string()
    }

    /// The message of an image taken at `captured_at`. Hashes the image: blocking.
    pub(crate) fn crop(&self, image: impl Into<Bytes>, captured_at: OffsetDateTime) -> anyhow::Result<Crop> {
        let image = image.into();
        let id = CropId::derive(&self.collection, &self.camera, captured_at, &ImageHash::of(&image));
        let mut headers = self.headers.clone();
        headers.push((headers::CAPTURED_AT, captured_at.format(&Rfc3339)?));
        let message = Message {
            subject: self.subject(),
            // The same crop always has the same: sent again within the duplicate window, it is stored once.
            id: Some(subjects::crop_message_id(id, Stage::Ingest)),
            headers,
            payload: image,
        };
        Ok(Crop { id, message })
    }
}

/// When a file was last changed. Times before 1970 count as its first moment: headers cannot say them.
pub(crate) fn changed_at(path: &Path) -> anyhow::Result<OffsetDateTime> {
    let changed = std::fs::metadata(path).and_then(|meta| meta.modified());
    let changed = changed.with_context(|| format!("cannot look at {}", path.display()))?;
    Ok(from_system(changed))
}

fn from_system(at: SystemTime) -> OffsetDateTime {
    let nanos = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let nanos = i128::try_from(nanos).unwrap_or(0);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The files that were named, and the images in directories that were named, at any depth, each directory's in the order
/// of their names. Hidden ones and directories behind links are left out. Blocking.
pub(crate) fn collect(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let meta = std::fs::metadata(path).with_context(|| format!("cannot find {}", path.display()))?;
        if !meta.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        walk(path, &mut files)?;
        if files.len() == before {
            bail!("there is no JPEG, PNG or WebP in {} (they are known by their extension)", path.display());
        }
    }
    Ok(files)
}

fn walk(root: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let mut directories = vec![root.to_owned()];
    let first = files.len();
    while let Some(directory) = directories.pop() {
        let unreadable = || format!("cannot read the directory {}", directory.display());
        for entry in std::fs::read_dir(&directory).with_context(unreadable)? {
            let entry = entry.with_context(unreadable)?;
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            // The entry's own type: a link to a directory is not followed, so that no circle is walked.
            if entry.file_type().with_context(unreadable)?.is_dir() {
                directories.push(path);
            } else if is_image(&path) && path.is_file() {
                files.push(path);
            }
        }
    }
    if let Some(found) = files.get_mut(first..) {
        found.sort_unstable();
    }
    Ok(())
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(headers: Vec<(&'static str, String)>) -> anyhow::Result<Target> {
        Target::new("office".parse().unwrap(), "door-1".parse().unwrap(), headers)
    }

    #[test]
    fn directories_give_their_images_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.JPG", "a.png", "note.txt", ".hidden.png", "deep/er/c.webp", "deep/a.jpeg"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("circle")).unwrap();
        let found = collect(&[dir.path().to_owned()]).unwrap();
        let names: Vec<_> = found.iter().map(|f| f.strip_prefix(dir.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.png", "b.JPG", "deep/a.jpeg", "deep/er/c.webp"]);
        // A file that is named is meant, whatever it is called.
        let named = dir.path().join("note.txt");
        assert_eq!(collect(std::slice::from_ref(&named)).unwrap(), [named]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = collect(&[dir.path().join("nobody.jpg")]).unwrap_err();
        assert!(error.to_string().contains("nobody.jpg"), "{error}");
        assert!(collect(&[dir.path().to_owned()]).unwrap_err().to_string().contains("no JPEG"));
    }

    #[test]
    fn a_message_is_what_ingest_reads() {
        let target = target(vec![(headers::INTENT, "observe".to_owned())]).unwrap();
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_123_456_789).unwrap();
        let crop = target.crop(b"image".to_vec(), at).unwrap();
        let find = |name| crop.message.headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        let (read, error) = ProducerHeaders::parse(find);
        assert_eq!((read.captured_at, error), (Some(at), None), "to the nanosecond, or the id would differ");
        assert_eq!(crop.message.subject, "crops.office.door-1");
        assert_eq!(crop.message.id, Some(format!("{}:ingest:0", crop.id)));
        assert_eq!(target.crop(b"image".to_vec(), at).unwrap().id, crop.id);
    }

    #[test]
    fn bad_headers_are_refused_before_anything_is_sent() {
        assert!(target(vec![(headers::INTENT, "enroll".to_owned())]).is_err());
        assert!(target(vec![(headers::THRESHOLD, "2".to_owned())]).is_err());
    }

    #[test]
    fn an_unset_clock_is_no_reason_to_fail() {
        let before = UNIX_EPOCH - std::time::Duration::from_secs(5);
        assert_eq!(from_system(before), OffsetDateTime::UNIX_EPOCH);
    }
}
