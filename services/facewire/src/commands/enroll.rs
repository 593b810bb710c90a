//! `facewire enroll`: sends image files of one person into the chain like any producer, and waits for what becomes of each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use facewire_bus::{Bus, Results};
use facewire_composition::Config;
use facewire_contracts::{headers, subjects, v1};
use facewire_domain::{CropId, Detail, Status};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::producer::{Crop, Target, collect};
use super::{connect, format};
use crate::cli::Enroll;
use crate::output::{self, Exit};

/// The camera that enrolments come from.
const CAMERA: &str = "enroll";
/// Longest person id that a producer may name, in bytes.
const LONGEST_SUBJECT: usize = 256;

/// What became of a file.
#[derive(Debug, Serialize)]
struct Line {
    file: PathBuf,
    crop_id: Option<CropId>,
    status: String,
    /// In words, where there is something to say.
    why: Option<String>,
    face_id: Option<String>,
    person_id: Option<String>,
}

pub(crate) async fn run(config: Config, args: &Enroll) -> anyhow::Result<Exit> {
    let subject = match &args.subject {
        Some(subject) => subject.clone(),
        None => {
            slug(&args.person).context("the name has no letter or digit to make an id of: name one with --subject")?
        }
    };
    let said = vec![
        (headers::INTENT, "enroll".to_owned()),
        (headers::SUBJECT, subject.clone()),
        (headers::NAME, args.person.clone()),
    ];
    let target = Target::new(args.collection.clone(), CAMERA.parse()?, said)?;
    let paths = args.files.clone();
    let files = tokio::task::spawn_blocking(move || collect(&paths)).await??;
    let bus = connect::nats(&config, "enroll").await?;
    let deadline = Instant::now() + args.timeout;
    let filter = subjects::results(target.collection.as_str(), CAMERA);
    // Listening first: a result may come before the last file is sent.
    let listening = tokio::time::timeout_at(deadline, connect::results(&bus, &filter, false)).await;
    let results = listening.map_err(|_| anyhow!("Facewire's services did not come up within {}", timeout(args)))?;
    let mut lines = send(&bus, &target, files).await;
    wait(&bus, &filter, results, &mut lines, args, deadline).await;
    report(&lines, &subject, args)?;
    Ok(if lines.iter().all(enrolled) { Exit::Success } else { Exit::ProblemsFound })
}

fn timeout(args: &Enroll) -> impl std::fmt::Display {
    humantime::format_duration(args.timeout)
}

/// An id from a name: lower case, letters and digits of any script, one `-` for everything between.
fn slug(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut slug = words.join("-");
    slug.truncate(slug.floor_char_boundary(LONGEST_SUBJECT));
    (!slug.is_empty()).then_some(slug)
}

/// Sends every file; one that cannot be sent has its line at once.
async fn send(bus: &Bus, target: &Target, files: Vec<PathBuf>) -> Vec<Line> {
    let mut lines = Vec::with_capacity(files.len());
    let mut now = OffsetDateTime::now_utc();
    for file in files {
        // Now, not the file's own time: asked again, the same file is another crop and has a result of its own.
        now += Duration::from_nanos(1);
        let line = match prepare(target, &file, now).await {
            Ok(crop) => {
                let error = bus.publish(crop.message).await.err();
                Line { crop_id: Some(crop.id), ..unsent(file, error.map(|error| error.to_string())) }
            }
            Err(error) => unsent(file, Some(format!("{error:#}"))),
        };
        lines.push(line);
    }
    lines
}

async fn prepare(target: &Target, file: &Path, captured_at: OffsetDateTime) -> anyhow::Result<Crop> {
    let (target, file) = (target.clone(), file.to_owned());
    tokio::task::spawn_blocking(move || target.crop(std::fs::read(&file)?, captured_at)).await?
}

fn unsent(file: PathBuf, error: Option<String>) -> Line {
    let status = if error.is_some() { "not_sent" } else { "" }.to_owned();
    Line { file, crop_id: None, status, why: error, face_id: None, person_id: None }
}

/// Fills the lines in as the results come, until all are there or the time is over.
async fn wait(bus: &Bus, filter: &str, mut results: Results, lines: &mut [Line], args: &Enroll, deadline: Instant) {
    let mut open: HashMap<String, &mut Line> = lines
        .iter_mut()
        .filter(|line| line.status.is_empty())
        .filter_map(|line| Some((line.crop_id?.to_string(), line)))
        .collect();
    let reading = async {
        while !open.is_empty() {
            match results.next().await {
                Ok(event) => {
                    let Some(result) = event.result else { continue };
                    if let Some(line) = open.remove(&result.crop_id) {
                        fill(line, result);
                    }
                }
                // From the start: results may have come while nobody listened. They are told apart by their ids.
                Err(_) => results = connect::results(bus, filter, true).await,
            }
        }
    };
    // Whatever is not there by then has a line that says so.
    let _ = tokio::time::timeout_at(deadline, reading).await;
    for line in open.into_values() {
        line.status = "no_result".to_owned();
        line.why = Some(format!("none within {}: `facewire stats` shows which stage is behind", timeout(args)));
    }
}

fn fill(line: &mut Line, result: v1::Result) {
    let detail = result.detail.map(Detail::from);
    line.why = result.failure_reason.map(|code| format::reason(&code, detail.as_ref()));
    line.status = result.status;
    line.face_id = result.face_id;
    line.person_id = result.person.map(|person| person.person_id);
}

fn enrolled(line: &Line) -> bool {
    [Status::Enrolled, Status::AlreadyEnrolled].iter().any(|status| status.as_str() == line.status)
}

fn report(lines: &[Line], subject: &str, args: &Enroll) -> anyhow::Result<()> {
    if args.json {
        for line in lines {
            output::line(serde_json::to_string(line)?);
        }
        return Ok(());
    }
    let mut table = output::table(&["file", "status", "why"]);
    for line in lines {
        let file = line.file.display().to_string();
        table.add_row([file.as_str(), &line.status, line.why.as_deref().unwrap_or_default()]);
    }
    output::line(table);
    let (done, all) = (lines.iter().filter(|line| enrolled(line)).count(), lines.len());
    let person = &args.person;
    output::line(format_args!("{done} of {all} enrolled for {person} ({subject}) in {}", args.collection));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_makes_an_id() {
        assert_eq!(slug("Anna-Lena  Schmidt").as_deref(), Some("anna-lena-schmidt"));
        assert_eq!(slug(" Jürgen O'Neill, jr. ").as_deref(), Some("jürgen-o-neill-jr"));
        assert_eq!(slug("山田 太郎").as_deref(), Some("山田-太郎"));
        assert_eq!(slug("?!"), None);
        let long = slug(&"é".repeat(400)).unwrap();
        assert!(long.len() <= LONGEST_SUBJECT && long.parse::<facewire_domain::SubjectId>().is_ok());
    }

    #[test]
    fn a_result_fills_its_line_in_words() {
        let mut line = unsent("a.jpg".into(), None);
        let detail = Detail::limit("faces", 2.0, 1.0);
        let result = v1::Result {
            status: "rejected".to_owned(),
            failure_reason: Some("multiple_faces".to_owned()),
            detail: Some(detail.into()),
            ..v1::Result::default()
        };
        fill(&mut line, result);
        assert!(!enrolled(&line));
        assert_eq!(line.why.as_deref(), Some("multiple_faces: faces 2, at most 1 is allowed"));
        fill(&mut line, v1::Result { status: "already_enrolled".to_owned(), ..v1::Result::default() });
        assert!(enrolled(&line) && line.why.is_none());
    }
}
