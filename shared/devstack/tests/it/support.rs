//! What the tests of the servers share: looking at processes, and the few words of the servers' protocols that show
//! whether data is still there.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use facewire_artifacts::progress::silent;
use facewire_artifacts::{Artifacts, FetchOptions, Kind, ensure};

/// Waits for a condition; fails loudly after a minute.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "waited a minute for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// All processes as (id, parent, state letter).
pub(crate) fn processes() -> Vec<(u32, u32, char)> {
    let stat = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        Some((pid, fields.next()?.parse().ok()?, state))
    };
    let ids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter_map(stat).collect()
}

/// The descendants of a process.
pub(crate) fn family(root: u32) -> Vec<u32> {
    let all = processes();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(all.iter().filter(|(_, p, _)| *p == parent).map(|(pid, _, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// Whether a process is there and not a zombie that nobody has collected yet.
pub(crate) fn lives(pid: u32) -> bool {
    processes().iter().any(|(id, _, state)| *id == pid && *state != 'Z')
}

/// Our child that works below `dir`.
pub(crate) fn child_in(dir: &Path) -> Option<u32> {
    let dir = dir.canonicalize().ok()?;
    let ours = processes().into_iter().filter(|(_, parent, _)| *parent == std::process::id());
    ours.map(|(pid, _, _)| pid)
        .find(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&dir)))
}

/// The artefacts of the servers, fetched where missing.
pub(crate) async fn artifacts() -> Artifacts {
    ensure(&[Kind::NatsServer, Kind::Postgres], &FetchOptions::default(), silent()).await.unwrap()
}

/// Runs SQL with psql and returns what it printed.
pub(crate) fn sql(found: &Artifacts, url: &str, statement: &str) -> String {
    let mut command = Command::new(found.postgres_bin.join("psql"));
    let output = command.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement, url]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{statement}: {err}");
    out.trim().to_owned()
}

/// One request to a nats-server, in its own text protocol.
pub(crate) fn nats_request(url: &str, subject: &str, payload: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("nats://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = payload.len();
    let words =
        format!("CONNECT {{\"verbose\":false}}\r\nSUB reply 1\r\nPUB {subject} reply {length}\r\n{payload}\r\n");
    stream.write_all(words.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines.find(|line| line.starts_with("MSG reply")).expect("an answer");
    lines.next().unwrap()
}

/// Creates a stream with one message in it.
pub(crate) fn fill_stream(url: &str) {
    let config = r#"{"name":"KEEP","subjects":["keep.>"],"storage":"file"}"#;
    let answer = nats_request(url, "$JS.API.STREAM.CREATE.KEEP", config);
    assert!(!answer.contains("\"error\""), "{answer}");
    let ack = nats_request(url, "keep.one", "a crop");
    assert!(ack.contains("\"seq\":1"), "{ack}");
}

/// How many messages the stream holds.
pub(crate) fn stream_messages(url: &str) -> u64 {
    let answer: serde_json::Value = serde_json::from_str(&nats_request(url, "$JS.API.STREAM.INFO.KEEP", "")).unwrap();
    answer["state"]["messages"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

/// A directory that every user may enter, as PostgreSQL may run as another one.
pub(crate) fn open_dir() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap()
}
