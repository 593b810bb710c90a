//! The notes of `facewire publish --resume FILE`: what is published, a line each, so that an interrupted run goes on
//! where it was.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use facewire_domain::ImageHash;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::producer::Target;

/// The first line of the notes: which run they are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunOf {
    /// Where the crops go.
    pub(crate) subject: String,
    /// For crops that are captured when the run began: that moment in nanoseconds since 1970, and the number of files,
    /// which every crop's time depends on.
    pub(crate) began: Option<(i128, usize)>,
    /// For such crops a hash of the files in their order, since a crop's time is also of its file's place among them. The notes of
    /// an earlier release have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    list: Option<String>,
    /// A hash of what is said of each crop: a crop that went with another intent, or for another person, was not published as this run
    /// wants it. The notes of an earlier release have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<String>,
}

impl RunOf {
    /// A run that begins now. `captured_now`: so are its crops. Blocking.
    pub(crate) fn new(target: &Target, captured_now: bool, files: &[PathBuf]) -> Self {
        let began = captured_now.then(|| (OffsetDateTime::now_utc().unix_timestamp_nanos(), files.len()));
        let list = captured_now.then(|| list(files));
        Self { subject: target.subject(), began, list, said: Some(target.said()) }
    }
}

/// A hash of the files in their order; no path has a zero in it.
fn list(files: &[PathBuf]) -> String {
    let all: Vec<u8> =
        files.iter().flat_map(|path| path.as_os_str().as_encoded_bytes().iter().copied().chain([0])).collect();
    ImageHash::of(&all).to_string()
}

/// Notes that are being written.
#[derive(Debug)]
pub(crate) struct Notes {
    path: PathBuf,
    file: File,
}

/// The name of a crop in the notes. The quotes around the path show that the line was written to its end.
pub(crate) fn key(round: u32, captured_at: i128, path: &Path) -> String {
    format!("{round} {captured_at} {path:?}")
}

impl Notes {
    /// Opens the notes, or begins them. What an earlier run noted comes back, with the moment when that run began.
    pub(crate) async fn open(path: &Path, run: RunOf) -> anyhow::Result<(Self, RunOf, HashSet<String>)> {
        let unusable = || format!("cannot use the notes {}", path.display());
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(path).await.with_context(unusable)?;
        let mut text = String::new();
        file.read_to_string(&mut text).await.with_context(unusable)?;
        let mut notes = Self { path: path.to_owned(), file };
        let mut lines = text.lines();
        let Some(first) = lines.next() else {
            notes.write(std::iter::once(serde_json::to_string(&run)?.as_str())).await?;
            return Ok((notes, run, HashSet::new()));
        };
        let before = same_run(path, first, &run)?;
        let done = lines.map(str::to_owned).collect();
        if !text.ends_with('\n') {
            // The earlier run was cut off within a line; that crop is published once more, which is harmless.
            notes.file.write_all(b"\n").await.with_context(unusable)?;
        }
        Ok((notes, before, done))
    }

    /// Notes some crops, down to the operating system.
    pub(crate) async fn write(&mut self, keys: impl Iterator<Item = &str>) -> anyhow::Result<()> {
        let lines: String = keys.flat_map(|key| [key, "\n"]).collect();
        let written = async {
            self.file.write_all(lines.as_bytes()).await?;
            self.file.flush().await
        };
        written.await.with_context(|| format!("cannot write the notes {}", self.path.display()))
    }
}

fn same_run(path: &Path, first: &str, run: &RunOf) -> anyhow::Result<RunOf> {
    let Ok(before) = serde_json::from_str::<RunOf>(first) else {
        bail!("{} holds no notes of `facewire publish`: name another file, or one that does not exist", path.display());
    };
    let files = |run: &RunOf| run.began.map(|(_, files)| files);
    if before.subject != run.subject || files(&before) != files(run) {
        bail!(
            "{} holds the notes of another run ({}, {}): name another file, or give the same arguments as then",
            path.display(),
            before.subject,
            files(&before).map_or("files by their times".to_owned(), |files| format!("{files} files captured now")),
        );
    }
    if before.said.is_some() && before.said != run.said {
        bail!(
            "{} holds the notes of a run with another intent, person, threshold or --frame: what it published is not what is wanted \
             now. Name another file, or give the same arguments as then",
            path.display(),
        );
    }
    if before.list.is_some() && before.list != run.list {
        bail!(
            "{} holds the notes of a run of other files, as many as these. A crop that is captured now has its time by its file's place \
             among them all, so that the same files would be published again: name another file, or give the same arguments as then",
            path.display(),
        );
    }
    Ok(before)
}

#[cfg(test)]
mod tests {
    use facewire_contracts::headers;

    use super::*;

    fn run_of(began: Option<(i128, usize)>) -> RunOf {
        RunOf { subject: "crops.default.door".to_owned(), began, list: None, said: None }
    }

    fn target(said: &[(&'static str, &str)]) -> Target {
        let said = said.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Target::new("default".parse().unwrap(), "door".parse().unwrap(), said).unwrap()
    }

    #[tokio::test]
    async fn as_many_other_files_are_another_run_where_times_are_of_places() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        let run = |captured_now, files: &[&str]| {
            let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
            RunOf::new(&target(&[]), captured_now, &files)
        };
        let (_, first, _) = Notes::open(&path, run(true, &["b.jpg", "c.jpg"])).await.unwrap();
        for other in [["a.jpg", "b.jpg"], ["c.jpg", "b.jpg"]] {
            let refused = Notes::open(&path, run(true, &other)).await.unwrap_err().to_string();
            assert!(refused.contains("other files"), "{refused}");
        }
        let (_, again, _) = Notes::open(&path, run(true, &["b.jpg", "c.jpg"])).await.unwrap();
        assert_eq!(again, first);
        // Where each file has a time of its own, the others do not matter.
        std::fs::remove_file(&path).unwrap();
        Notes::open(&path, run(false, &["b.jpg", "c.jpg"])).await.unwrap();
        Notes::open(&path, run(false, &["a.jpg", "b.jpg"])).await.unwrap();
        // An earlier release noted the number alone.
        std::fs::write(&path, "{\"subject\":\"crops.default.door\",\"began\":[77,2]}\n").unwrap();
        let (_, before, _) = Notes::open(&path, run(true, &["b.jpg", "c.jpg"])).await.unwrap();
        assert_eq!(before.began, Some((77, 2)));
    }

    #[tokio::test]
    async fn a_run_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        let first = key(0, 5, Path::new("a b\n.jpg"));
        let (mut notes, _, done) = Notes::open(&path, run_of(Some((77, 3)))).await.unwrap();
        assert!(done.is_empty());
        notes.write([first.as_str()].into_iter()).await.unwrap();
        drop(notes);
        // Killed in the middle of a line.
        let cut = std::fs::read_to_string(&path).unwrap() + "0 5 \"c";
        std::fs::write(&path, cut).unwrap();
        let (mut notes, before, done) = Notes::open(&path, run_of(Some((99, 3)))).await.unwrap();
        assert_eq!(before.began, Some((77, 3)), "the crops keep the times of the first run");
        assert!(done.contains(&first) && !done.contains(&key(0, 5, Path::new("c"))));
        let second = key(0, 5, Path::new("c"));
        notes.write([second.as_str()].into_iter()).await.unwrap();
        let (_, _, done) = Notes::open(&path, run_of(Some((1, 3)))).await.unwrap();
        assert!(done.contains(&second), "{done:?}");
    }

    #[tokio::test]
    async fn notes_of_another_run_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        Notes::open(&path, run_of(None)).await.unwrap();
        assert!(Notes::open(&path, RunOf { subject: "crops.x.y".to_owned(), ..run_of(None) }).await.is_err());
        assert!(Notes::open(&path, run_of(Some((1, 1)))).await.is_err());
        std::fs::write(&path, "somebody's letter\n").unwrap();
        assert!(Notes::open(&path, run_of(None)).await.unwrap_err().to_string().contains("no notes"));
    }

    #[tokio::test]
    async fn notes_of_a_run_that_said_something_else_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        let run = |said: &[(&'static str, &str)]| RunOf::new(&target(said), false, &[]);
        let enrol = |subject: &'static str| run(&[(headers::INTENT, "enroll"), (headers::SUBJECT, subject)]);
        Notes::open(&path, enrol("ada")).await.unwrap();
        for other in [run(&[(headers::INTENT, "recognize")]), enrol("bob")] {
            let refused = Notes::open(&path, other).await.unwrap_err().to_string();
            assert!(refused.contains("another intent, person"), "{refused}");
        }
        Notes::open(&path, enrol("ada")).await.unwrap();
        // An earlier release did not note what was said.
        std::fs::write(&path, "{\"subject\":\"crops.default.door\",\"began\":null}\n").unwrap();
        Notes::open(&path, enrol("bob")).await.unwrap();
    }
}
