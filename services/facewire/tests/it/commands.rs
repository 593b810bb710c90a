//! The commands that README names first, as a person types them: `demo`, `up`, `enroll`, `publish`, `watch`, `bench`, and the
//! producer in Python; each on a data directory of the test's own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use facewire_devstack::testing::{self, TestStack};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::deployment::{http, until};

/// A client of Facewire in Python, and nothing else.
const NATS_PY: &str = "nats-py==2.11.0";

/// Another user runs the stack's Postgres.
fn data_directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o711)).tempdir().unwrap()
}

fn facewire(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facewire"));
    // The default byte limits are refused where the disk has less free.
    command.env("FACEWIRE__NATS__CROPS_MAX_BYTES", "64MB").env("FACEWIRE__NATS__STAGE_MAX_BYTES", "64MB");
    command.env_remove("FACEWIRE_CONFIG").stdin(Stdio::null()).arg("--data").arg(data).args(arguments);
    command
}

fn run(data: &Path, arguments: &[&str], files: &[&Path]) -> Output {
    facewire(data, arguments).args(files).output().unwrap()
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}{}", output.status, String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// JSON objects, one after the other.
fn objects(text: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(text).into_iter().map(Result::unwrap).collect()
}

/// `facewire up` on a directory; killed with the test if it has not ended.
struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Up {
    async fn start(data: &Path) -> Self {
        Self::start_with(data, &["up"]).await
    }

    async fn start_with(data: &Path, arguments: &[&str]) -> Self {
        let mut up = Self(facewire(data, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("the note of a running stack", || {
            assert!(up.0.try_wait().unwrap().is_none(), "`up` ended by itself");
            data.join("endpoints.json").exists().then_some(())
        })
        .await;
        up
    }

    /// SIGTERM, as a service manager would.
    async fn stop(mut self, data: &Path) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let status = until("the end of `up`", || self.0.try_wait().unwrap()).await;
        assert_eq!(status.code(), Some(0), "after SIGTERM");
        assert!(!data.join("endpoints.json").exists(), "the note is removed");
    }
}

/// One person enrolled by `enroll`, asked for by `publish`, read by `watch`; then the same by README's producer.
#[tokio::test(flavor = "multi_thread")]
async fn up_enroll_publish_watch_and_a_producer_in_python() {
    let samples = testing::samples().await.unwrap();
    let person = samples.people().into_iter().find(|person| person.subject == "barack-obama").unwrap();
    let directory = data_directory();
    let data = directory.path();
    let up = Up::start(data).await;

    let enrolled =
        objects(&succeeded(&run(data, &["enroll", "--person", "Ada Lovelace", "--json"], &[&person.enroll])));
    assert!(enrolled.iter().any(|line| line.to_string().contains("\"enrolled\"")), "{enrolled:?}");
    let published = objects(&succeeded(&run(data, &["publish", "--camera", "door-1", "--json"], &[&person.probes[0]])));
    assert_eq!(published[0]["published"], 1, "{published:?}");
    let watched = objects(&succeeded(&run(data, &["watch", "--all", "--camera", "door-1", "-n", "1", "--json"], &[])));
    assert_eq!(watched[0]["status"], "matched", "{watched:?}");
    assert_eq!(watched[0]["decision"]["person"]["name"], "Ada Lovelace", "{watched:?}");
    let checked = run(data, &["migrate", "--dry-run"], &[]);
    assert!(succeeded(&checked).contains("nothing to do"), "`up` migrates");

    if let Some(library) = python_library() {
        let result = producer_of_readme(data, library.path(), &person.enroll);
        assert_eq!(result["status"], "no_match", "nobody is enrolled in `office`: {result}");
    }
    http_of_readme(data, &person.enroll, &person.probes[0]);
    up.stop(data).await;
}

/// How many files lie in a directory, at any depth.
fn files_in(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().map(Result::unwrap);
    entries.map(|entry| if entry.file_type().unwrap().is_dir() { files_in(&entry.path()) } else { 1 }).sum()
}

/// `up` chose where the images are kept: who erases has to find them.
#[tokio::test(flavor = "multi_thread")]
async fn people_erase_finds_the_images_that_an_up_keeps() {
    let samples = testing::samples().await.unwrap();
    let person = samples.people().into_iter().find(|person| person.subject == "barack-obama").unwrap();
    let directory = data_directory();
    let (data, images) = (directory.path(), directory.path().join("images"));
    let up = Up::start(data).await;
    let noted: Value = serde_json::from_slice(&std::fs::read(data.join("endpoints.json")).unwrap()).unwrap();
    let gateway = noted["http"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
    let office = json!({ "name": "office", "policy": { "keepImages": "aligned" } }).to_string();
    until("a gateway that makes the collection", || {
        let answer = http(gateway, "POST", "/api/v1/collections", &office).ok()?;
        answer.starts_with("HTTP/1.1 201").then_some(())
    })
    .await;

    let enroll = ["enroll", "--collection", "office", "--person", "Ada", "--subject", "ada", "--json"];
    succeeded(&run(data, &enroll, &[&person.enroll]));
    assert!(files_in(&images) > 0, "nothing is kept in {}", images.display());
    let erase = ["people", "erase", "--collection", "office", "--person", "ada", "--yes", "--json"];
    let receipt = objects(&succeeded(&run(data, &erase, &[]))).remove(0);
    assert!(receipt["images"].as_u64() > Some(0), "{receipt}");
    assert_eq!(files_in(&images), 0, "{receipt}");
    up.stop(data).await;
}

/// The servers are somebody's: the directory tells of them as long as one `up` has it, and no image is kept in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_has_one_up_whose_servers_are_all_named_and_keeps_no_image_of_theirs() {
    let (directory, stack) = (data_directory(), TestStack::start().await.unwrap());
    let (data, note) = (directory.path(), directory.path().join("endpoints.json"));
    let (nats, postgres, qdrant) = (stack.nats_url.as_str(), stack.postgres_url.as_str(), stack.qdrant_url.as_str());
    let arguments = ["up", "--no-services", "--nats", nats, "--postgres", postgres, "--qdrant", qdrant];
    let up = Up::start_with(data, &arguments).await;
    let noted = std::fs::read(&note).unwrap();
    let second = run(data, &arguments, &[]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && said.contains("in use by another stack"), "{said}");
    assert_eq!(std::fs::read(&note).unwrap(), noted);
    up.stop(data).await;
    assert!(!data.join("images").exists());
}

/// As a second Ctrl-C, a kill or a power cut ends it: the note stays, and is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn the_note_of_an_up_that_was_killed_leads_nobody_to_its_servers() {
    let (directory, stack) = (data_directory(), TestStack::start().await.unwrap());
    let data = directory.path();
    let (nats, postgres, qdrant) = (stack.nats_url.as_str(), stack.postgres_url.as_str(), stack.qdrant_url.as_str());
    let arguments = ["up", "--no-services", "--nats", nats, "--postgres", postgres, "--qdrant", qdrant];
    let leads_there = || succeeded(&run(data, &["config"], &[])).contains(qdrant);
    let mut up = Up::start_with(data, &arguments).await;
    assert!(leads_there());
    up.0.kill().unwrap();
    up.0.wait().unwrap();
    assert!(data.join("endpoints.json").exists() && !leads_there());
}

/// A block of code of README, of a section and language.
fn block_of_readme(section: &str, language: &str) -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).unwrap();
    let section = readme.split(&format!("## {section}\n")).nth(1).unwrap();
    let block = section.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next());
    block.unwrap().to_owned()
}

/// README's requests as they are printed there, but for the port and the files.
fn http_of_readme(data: &Path, portrait: &Path, probe: &Path) {
    let noted: Value = serde_json::from_slice(&std::fs::read(data.join("endpoints.json")).unwrap()).unwrap();
    let at = |text: &str| text.replace("http://127.0.0.1:8090", noted["http"].as_str().unwrap());
    let curls = at(&block_of_readme("Over HTTP", "sh"));
    let curls = curls.replace("ada.jpg", portrait.to_str().unwrap()).replace("face.jpg", probe.to_str().unwrap());
    let answers: Vec<Value> = curls
        .lines()
        .map(|line| {
            let output = Command::new("sh").args(["-c", &line.replace("curl ", "curl -sS ")]).output().unwrap();
            serde_json::from_str(&succeeded(&output)).unwrap()
        })
        .collect();
    assert_eq!(answers[0]["enrolled"], 1, "{answers:?}");
    assert_eq!(answers[1]["faces"][0]["decision"]["person"]["name"], "Ada Lovelace", "{answers:?}");
    let mut python = Command::new("python3");
    let output = python.args(["-c", &at(&block_of_readme("Over HTTP", "python"))]).arg(probe).output().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&succeeded(&output)).unwrap()["status"], "matched");
}

/// The Python client in a directory of its own.
fn python_library() -> Option<tempfile::TempDir> {
    let directory = tempfile::tempdir().unwrap();
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--target"]);
    let installed = pip.arg(directory.path()).arg(NATS_PY).output();
    if installed.is_ok_and(|output| output.status.success()) {
        return Some(directory);
    }
    // pip fetches the servers as well: where it works for them, it works for this.
    testing::missing(&format!("{NATS_PY} for Python"), true);
    None
}

/// README's snippet as it is printed there, but for the port.
fn producer_of_readme(data: &Path, library: &Path, image: &Path) -> Value {
    let snippet = block_of_readme("Publish a crop from any language", "python");
    let noted: Value = serde_json::from_slice(&std::fs::read(data.join("endpoints.json")).unwrap()).unwrap();
    let script: PathBuf = library.join("producer.py");
    let text = snippet.replace("nats://127.0.0.1:4222", noted["nats"].as_str().unwrap());
    assert_ne!(text, *snippet, "README names the server");
    std::fs::write(&script, text).unwrap();
    let output = Command::new("python3").arg(&script).arg(image).env("PYTHONPATH", library).output().unwrap();
    serde_json::from_str(&succeeded(&output)).unwrap()
}

#[test]
fn demo_recognises_the_samples_and_counts_every_crop_once() {
    let directory = data_directory();
    let output = run(directory.path(), &["demo", "--degrade", "none", "--json"], &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/docs while the demo runs"), "{said}");
    let report = objects(&succeeded(&output)).remove(0);
    assert_eq!((&report["lost"], &report["duplicated"]), (&0.into(), &0.into()), "{report}");
    assert!(report["accuracy"]["correct"].as_u64() > Some(0), "{report}");
    // Its data stays and can be asked about.
    let kept = report["kept"].as_str().unwrap();
    assert!(files_in(&Path::new(kept).join("images").join("demo")) > 0, "no face is kept");
    let crop = report["examples"]["matched"]["crop_id"].as_str().unwrap();
    assert!(succeeded(&run(Path::new(kept), &["why", crop], &[])).contains(crop));
}

/// The data are photos of one person, and the files of a second "person" who is never shown again but as somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn demo_fails_when_nobody_is_recognised() {
    let samples = testing::samples().await.unwrap();
    let people = samples.people();
    let folder = tempfile::tempdir().unwrap();
    // Each is enrolled with one person's photo and probed with another's.
    for (name, enrolled, probe) in [("a", &people[0], &people[1]), ("b", &people[1], &people[0])] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        for (file, photo) in [("1", &enrolled.enroll), ("2", probe.probes.first().unwrap_or(&probe.enroll))] {
            let kind = photo.extension().unwrap().to_str().unwrap();
            std::fs::copy(photo, folder.path().join(name).join(format!("{file}.{kind}"))).unwrap();
        }
    }
    let directory = data_directory();
    let faces = folder.path().to_str().unwrap();
    let output = run(directory.path(), &["demo", "--faces", faces, "--degrade", "none", "--forget", "--json"], &[]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let report = objects(&String::from_utf8(output.stdout).unwrap()).remove(0);
    assert_eq!(report["accuracy"]["correct"], 0, "{report}");
}

#[test]
fn bench_bus_measures_against_its_limit() {
    let directory = data_directory();
    let told = objects(&succeeded(&run(directory.path(), &["bench", "--json", "bus", "--crops", "200"], &[])));
    let measured = &told[0]["measurements"];
    let number = |name: &str| measured[0][name].as_f64().unwrap();
    assert!(measured[0]["bench"] == "bus" && number("value") > 0.0 && number("limit") > 0.0, "{told:?}");
    assert_eq!((told.len(), measured.as_array().unwrap().len()), (1, 1));
    // Every crop came through the whole chain, and found nobody: the gallery is empty.
    assert_eq!(measured[0]["statuses"], json!({ "no_match (empty_gallery)": 200 }), "{told:?}");
}
