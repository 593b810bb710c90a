//! Everything that Facewire holds, as bytes: tables, streams, points, images, and what the process logs. Nothing of it is
//! understood here; it is only searched.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use facewire_artifacts::{Artifacts, FetchOptions};
use serde_json::{Value, json};
use tracing::Level;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::chain::wiretap::Wiretap;
use crate::chain::world::World;

/// Where answers of the server are heard.
const HEARD: &str = "test.dump";

/// A piece of it: `table persons`, `stream RESULTS` and so on, with what lies there.
pub(crate) type Piece = (String, Vec<u8>);

/// All of it but the log.
pub(crate) async fn everything(world: &World, images: &Path) -> Vec<Piece> {
    let mut all = tables(&world.stack.postgres_url).await;
    all.extend(streams(&world.stack.nats_url).await);
    all.extend(points(world).await);
    files(images, &mut all);
    all
}

/// Names of the pieces that have this text in them, as it is or as the hexadecimal digits of its bytes.
pub(crate) fn places(all: &[Piece], text: &str) -> Vec<String> {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    places_of(all, &[text.as_bytes(), hex.as_bytes()])
}

/// The same of any of these bytes.
pub(crate) fn places_of(all: &[Piece], any: &[&[u8]]) -> Vec<String> {
    let has = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    let found = all.iter().filter(|(_, bytes)| any.iter().any(|part| has(bytes, part)));
    let mut names: Vec<String> = found.map(|(name, _)| name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// Every column of every table, a piece each line.
async fn tables(url: &str) -> Vec<Piece> {
    let program = Artifacts::locate(&FetchOptions::default()).unwrap().postgres_bin.join("pg_dump");
    let mut command = Command::new(program);
    command.arg("--data-only").arg(format!("--dbname={url}"));
    let dump = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let (mut table, mut all) = (String::new(), Vec::new());
    for line in String::from_utf8(dump.stdout).unwrap().lines() {
        if let Some(rest) = line.strip_prefix("COPY public.") {
            table = rest.split(' ').next().unwrap().to_owned();
        } else if line == "\\." {
            table.clear();
        } else if !table.is_empty() {
            all.push((format!("table {table}"), line.as_bytes().to_vec()));
        }
    }
    assert!(all.iter().any(|(name, _)| name == "table collections"));
    all
}

/// Subject, headers and body of every message, read by number as no consumer does.
async fn streams(url: &str) -> Vec<Piece> {
    let mut tap = Wiretap::on(url, HEARD).await;
    let names = tap.ask("$JS.API.STREAM.NAMES", HEARD, "").await;
    let mut all = Vec::new();
    for name in names["streams"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        let mut from = 1;
        loop {
            let next = json!({ "seq": from, "next_by_subj": ">" }).to_string();
            let answer = tap.ask(&format!("$JS.API.STREAM.MSG.GET.{name}"), HEARD, &next).await;
            let Some(message) = answer.get("message") else { break };
            let decoded = |field: &str| BASE64_STANDARD.decode(message[field].as_str().unwrap_or_default()).unwrap();
            let subject = message["subject"].as_str().unwrap().as_bytes();
            all.push((format!("stream {name}"), [subject, &decoded("hdrs"), &decoded("data")].join(&b' ')));
            from = message["seq"].as_u64().unwrap() + 1;
        }
    }
    all
}

async fn points(world: &World) -> Vec<Piece> {
    let (mut from, mut all) = (None, Vec::new());
    loop {
        let page = world.vectors.scroll(from, 100, false).await.unwrap();
        all.extend(page.points.iter().map(|point| ("points".to_owned(), format!("{point:?}").into_bytes())));
        match page.next {
            Some(next) => from = Some(next),
            None => return all,
        }
    }
}

fn files(directory: &Path, all: &mut Vec<Piece>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        all.push(("object's name".to_owned(), path.display().to_string().into_bytes()));
        if path.is_dir() {
            files(&path, all);
        } else {
            all.push(("object".to_owned(), std::fs::read(&path).unwrap()));
        }
    }
}

/// Tests that listen.
static LISTENERS: AtomicUsize = AtomicUsize::new(0);
static WORDS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static HEARD_LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static LINES: Mutex<u64> = Mutex::new(0);

/// What this process logs, of all its tests, as far as some word is in it.
pub(crate) struct Log {
    /// How many lines there were before.
    before: u64,
}

impl Log {
    /// Listens for words that nobody else uses, from now on.
    pub(crate) fn listen_for(words: &[&str]) -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let of_debug = |level: &Level| LISTENERS.load(Ordering::Relaxed) > 0 && *level <= Level::DEBUG;
            let lines = fmt::layer().with_writer(Lines).with_ansi(false);
            let lines = lines.with_filter(dynamic_filter_fn(move |metadata, _| of_debug(metadata.level())));
            tracing::subscriber::set_global_default(Registry::default().with(lines)).unwrap();
        });
        WORDS.lock().unwrap().extend(words.iter().map(|word| (*word).to_owned()));
        LISTENERS.fetch_add(1, Ordering::Relaxed);
        Self { before: *LINES.lock().unwrap() }
    }

    /// Lines with this word. Something must have been logged at all.
    pub(crate) fn with(&self, word: &str) -> Vec<String> {
        assert!(*LINES.lock().unwrap() > self.before, "nothing was heard");
        HEARD_LINES.lock().unwrap().iter().filter(|line| line.contains(word)).cloned().collect()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        LISTENERS.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Lines;

struct Line(Vec<u8>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

impl std::io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = String::from_utf8_lossy(&self.0).into_owned();
        *LINES.lock().unwrap() += 1;
        if WORDS.lock().unwrap().iter().any(|word| line.contains(word)) {
            HEARD_LINES.lock().unwrap().push(line);
        }
    }
}

/// A face's embedding as rows have it.
pub(crate) fn hex_of(embedding: &[f32]) -> String {
    embedding.iter().flat_map(|number| number.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect()
}

/// The string of a JSON value.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
