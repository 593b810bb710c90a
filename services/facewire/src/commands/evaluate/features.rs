//! One line for each photo that was enrolled or probed with: what was measured and what came of it, for training a score and
//! for judging limits. Names of people are in it, embeddings never.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use facewire_domain::Signal;

use super::identify::{Experiment, Shot, clean, everybody, taken_for};
use super::seen::Seen;

/// For its owner alone: it names people.
const MODE: u32 = 0o600;

/// Writes the file anew, readable by its owner alone. Without a threshold nothing is told right or wrong.
pub(super) fn write(experiment: &Experiment, threshold: Option<f32>, path: &Path) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut out = BufWriter::new(emptied(path)?);
    for line in lines(experiment, threshold)? {
        writeln!(out, "{}", line.iter().map(|field| quoted(field)).collect::<Vec<_>>().join(","))
            .with_context(context)?;
    }
    out.flush().with_context(context)
}

/// Says before the work whether the file can be written; what is in it stays. What is no file is left alone: a pipe waits for its
/// reader, who would take that for the end.
pub(super) fn check_writable(path: &Path) -> anyhow::Result<()> {
    let there = std::fs::metadata(path).ok();
    if there.as_ref().is_some_and(|there| !there.is_file() && !there.is_dir()) {
        return Ok(());
    }
    opened(path)?;
    if there.is_none() && !path.is_symlink() {
        std::fs::remove_file(path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The file, empty and its owner's alone.
fn emptied(path: &Path) -> anyhow::Result<File> {
    let (file, is_file) = opened(path)?;
    if is_file {
        file.set_len(0).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(file)
}

/// The file, its owner's alone, and whether it is one. What is none, such as a pipe or `/dev/null`, stays as it is: nobody comes by
/// later and reads it.
fn opened(path: &Path) -> anyhow::Result<(File, bool)> {
    let context = || format!("cannot write {}", path.display());
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(MODE).open(path).with_context(context)?;
    let is_file = file.metadata().with_context(context)?.is_file();
    if is_file {
        // The mode above is that of a file that is made: one that was there keeps its own. One of somebody else is refused
        // before anything in it has changed.
        file.set_permissions(Permissions::from_mode(MODE)).with_context(|| {
            format!("{} is to name people, and cannot be made its owner's alone: name another file", path.display())
        })?;
    }
    Ok((file, is_file))
}

fn lines(experiment: &Experiment, threshold: Option<f32>) -> anyhow::Result<Vec<Vec<String>>> {
    let head = ["role", "person", "photo", "camera"].into_iter().chain(Signal::ALL.into_iter().map(Signal::name));
    let tail = ["faces", "similarity", "runner_up", "own_similarity", "answer", "reason"];
    let mut lines = vec![head.chain(tail).map(str::to_owned).collect()];
    for (_, _, person) in everybody(experiment.faces) {
        for photo in &person.gallery {
            if let Some(seen) = clean(experiment.sights, *photo) {
                let told = [const { String::new() }; 4];
                let reason = seen.reason(&experiment.judging.enrol);
                lines.push(line(experiment, ["gallery", &person.name, "clean"], *photo, seen, told, reason));
            }
        }
    }
    let set = experiment.set(false, |_| true)?;
    let names: Vec<&str> = everybody(experiment.faces).map(|(_, _, person)| person.name.as_str()).collect();
    for shot in &experiment.shots {
        let taken = threshold.map(|threshold| taken_for(&set, shot, threshold));
        let name = names.get(shot.person as usize).copied().unwrap_or_default();
        let role = if shot.known { "probe" } else { "stranger" };
        let what = [role, name, shot.camera.name()];
        lines.push(line(experiment, what, shot.photo, shot.seen, told(shot, taken), shot.reason.clone()));
    }
    Ok(lines)
}

/// Similarities, and what the probe's answer is without a gate.
fn told(shot: &Shot, taken: Option<Option<u32>>) -> [String; 4] {
    let answer = match (shot.free, taken) {
        (None, _) | (_, None) => "",
        (_, Some(Some(person))) if shot.known && person == shot.person => "right",
        (_, Some(Some(_))) if shot.known => "wrong",
        (_, Some(None)) if shot.known => "missed",
        (_, Some(Some(_))) => "accepted",
        (_, Some(None)) => "refused",
    };
    let number = |number: Option<f32>| number.map_or_else(String::new, |number| number.to_string());
    let (best, runner_up) = (shot.free.map(|ranked| ranked.best), shot.free.and_then(|ranked| ranked.runner_up));
    [number(best), number(runner_up), number(shot.own), answer.to_owned()]
}

fn line(
    experiment: &Experiment,
    [role, person, camera]: [&str; 3],
    photo: usize,
    seen: &Seen,
    told: [String; 4],
    reason: Option<String>,
) -> Vec<String> {
    let file = experiment.faces.files.get(photo).and_then(|path| path.file_name());
    let file = file.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let quality = experiment.judging.quality(seen);
    let signals = Signal::ALL.into_iter().map(|signal| {
        let value = quality.map(|quality| quality.get(signal)).filter(|value| !value.is_nan());
        value.map_or_else(String::new, |value| value.to_string())
    });
    let mut line = vec![role.to_owned(), person.to_owned(), file, camera.to_owned()];
    line.extend(signals);
    line.push(seen.faces.to_string());
    line.extend(told);
    line.push(reason.unwrap_or_default());
    line
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::identify::tests::{judging, sample};
    use super::*;
    use facewire_vision::Camera;

    #[test]
    fn a_line_for_each_photo_and_each_camera() {
        let (faces, sights) = sample();
        let cameras = &[Camera::Clean, Camera::Dark];
        let experiment = Experiment::new((&faces, &sights), cameras, judging(true, None), 2).unwrap();
        let lines = lines(&experiment, Some(0.8)).unwrap();
        assert_eq!(lines.len(), 1 + 2 + 6);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()));
        let answers: Vec<&str> = lines.iter().skip(3).map(|line| line[line.len() - 2].as_str()).collect();
        assert_eq!(answers, ["right", "right", "right", "", "refused", "accepted"]);
        assert_eq!(lines[6].last().unwrap(), "no_face");
        assert_eq!(lines[1][..4], ["gallery", "a", "0.jpg", "clean"]);
    }

    #[test]
    fn a_file_that_others_could_read_becomes_its_owners() {
        let (faces, sights) = sample();
        let experiment = Experiment::new((&faces, &sights), &[Camera::Clean], judging(true, None), 2).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "before").unwrap();
        std::fs::set_permissions(file.path(), Permissions::from_mode(0o644)).unwrap();
        write(&experiment, None, file.path()).unwrap();
        assert_eq!(std::fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(file.path()).unwrap().starts_with("role,person"));
    }

    #[test]
    fn what_cannot_be_written_is_said_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("features");
        check_writable(&file).unwrap();
        assert!(!file.exists());
        std::fs::write(&file, "before").unwrap();
        check_writable(&file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "before");
        assert!(check_writable(folder.path()).is_err(), "a folder");
        assert!(check_writable(&file.join("features")).is_err(), "in a file");
    }

    #[test]
    fn a_pipe_is_written_to_and_stays_as_it_is() {
        let (faces, sights) = sample();
        let experiment = Experiment::new((&faces, &sights), &[Camera::Clean], judging(true, None), 2).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("features");
        assert!(std::process::Command::new("mkfifo").args(["-m", "644"]).arg(&pipe).status().unwrap().success());
        // Nobody reads yet: this one does not wait.
        check_writable(&pipe).unwrap();
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read_to_string(pipe).unwrap()
        });
        write(&experiment, None, &pipe).unwrap();
        assert!(reader.join().unwrap().starts_with("role,person"));
        assert_eq!(std::fs::metadata(&pipe).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn a_name_with_a_comma_stays_one_field() {
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quoted("a b"), "a b");
    }
}
