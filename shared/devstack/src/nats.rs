//! A nats-server with JetStream as a child process, on loopback.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use facewire_artifacts::offload::{Cancel, offload};
use facewire_artifacts::process::{Process, poll};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::dirs::{make_dir, write_file};
use crate::error::{At, StackError};
use crate::lock::DirLock;
use crate::ports;
use crate::process::{Managed, Spec, fresh_log, log_tail};

const NAME: &str = "nats-server";

/// The largest message, headers included: a crop or a whole frame with room to spare. nats-server's own default is
/// 1 MiB, its upper limit 64 MiB.
pub const MAX_PAYLOAD: u32 = 16 * 1024 * 1024;

/// A store of many gigabytes is read through at the start.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How to start one.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// The nats-server program.
    pub program: PathBuf,
    /// Its own directory: configuration, log and the JetStream store. Created where missing.
    pub dir: PathBuf,
    /// The client port on 127.0.0.1; `None` takes a free one.
    pub port: Option<u16>,
    /// The HTTP monitoring port on 127.0.0.1; `None` leaves monitoring off.
    pub monitor_port: Option<u16>,
    /// More of its configuration, in the server's own language: accounts, TLS. Empty: whoever connects may do everything.
    pub more: String,
    /// The directory is thrown away afterwards: a dropped handle kills instead of stopping in order.
    pub throwaway: bool,
}

/// A running nats-server. Dropping it stops the server.
pub struct NatsServer {
    server: Managed,
    port: u16,
    _lock: DirLock,
}

impl NatsServer {
    /// Starts the server and waits until it serves clients with JetStream on.
    ///
    /// # Errors
    /// [`StackError::InUse`], [`StackError::PortTaken`] for a named port, [`StackError::Start`] with the log's end.
    pub async fn start(options: NatsOptions) -> Result<Self, StackError> {
        offload(move |cancel| Self::start_blocking(&options, cancel)).await
    }

    pub(crate) fn start_blocking(options: &NatsOptions, cancel: &Cancel) -> Result<Self, StackError> {
        make_dir(&options.dir, 0o700)?;
        let lock = DirLock::take(&options.dir)?;
        let spec = Spec {
            name: NAME,
            stop: Signal::SIGTERM,
            grace: Duration::from_secs(15),
            on_drop: if options.throwaway { Signal::SIGKILL } else { Signal::SIGTERM },
            log: options.dir.join("nats-server.log"),
        };
        let (server, port) = ports::with_port(NAME, options.port, |port| {
            let options = options.clone();
            let start = move |cancel: &Cancel| launch(&options, port, cancel);
            Managed::start(spec.clone(), cancel, start).map(|server| (server, port))
        })?;
        Ok(Self { server, port, _lock: lock })
    }

    /// `nats://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The client port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

crate::controls::controls!(NatsServer);

fn launch(options: &NatsOptions, port: u16, cancel: &Cancel) -> Result<Process, StackError> {
    if !ports::is_free(port) {
        return Err(StackError::PortTaken { server: NAME, port });
    }
    // Told apart from a stranger who took the port first: our server says this name in its greeting.
    let server_name = format!("facewire-{}", uuid::Uuid::new_v4().simple());
    let config = write_config(options, port, &server_name)?;
    let log = options.dir.join("nats-server.log");
    let out = fresh_log(&log).at("cannot open the log", &log)?;
    let mut command = Command::new(&options.program);
    command
        .arg("--config")
        .arg(&config)
        .current_dir(&options.dir)
        // It shares the machine with the services' compute threads: half of the cores is plenty, and on all of them Go's
        // scheduler switches contexts for nothing (measured on two cores: 22 % fewer over the whole machine).
        .env("GOMAXPROCS", cores().div_ceil(2).to_string())
        .stdin(Stdio::null())
        .stdout(out.try_clone().at("cannot open the log", &log)?)
        .stderr(out);
    let process = Process::start(command, Signal::SIGKILL).at("cannot start nats-server", &options.program)?;
    let outcome = wait_ready(&process, port, &server_name, &log, cancel);
    if outcome.is_err() {
        process.stop(Signal::SIGKILL, Duration::from_secs(5));
    }
    outcome.map(|()| process)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Streams reserve their byte limits of this. Without it, the server takes three quarters of what is free on the disk when it
/// starts, and whether the streams can be made would depend on the day.
const MAX_FILE_STORE: u64 = 64 << 30;

/// Each line's value is JSON, of which nats-server's language is a superset.
fn write_config(options: &NatsOptions, port: u16, server_name: &str) -> Result<PathBuf, StackError> {
    let store = options.dir.join("store");
    make_dir(&store, 0o700)?;
    let mut config = json!({
        "server_name": server_name,
        "host": "127.0.0.1",
        "port": port,
        "max_payload": MAX_PAYLOAD,
        "jetstream": { "store_dir": store, "max_file_store": MAX_FILE_STORE },
    });
    if let (Some(monitor), Some(fields)) = (options.monitor_port, config.as_object_mut()) {
        fields.insert("http".to_owned(), json!(format!("127.0.0.1:{monitor}")));
    }
    let path = options.dir.join("nats-server.conf");
    let mut text: String =
        config.as_object().into_iter().flatten().map(|(name, value)| format!("{name}: {value}\n")).collect();
    text.push_str(&options.more);
    write_file(&path, text.as_bytes(), 0o600)?;
    Ok(path)
}

fn wait_ready(process: &Process, port: u16, name: &str, log: &Path, cancel: &Cancel) -> Result<(), StackError> {
    let failed = |why: String| StackError::Start { server: NAME, why, log: log.to_owned(), tail: log_tail(log) };
    let seen = poll(READY_WITHIN, || {
        if cancel.is_set() {
            return Some(Err(StackError::Interrupted));
        }
        if let Some(ended) = process.status() {
            let taken = log_tail(log).contains("address already in use");
            return Some(Err(if taken { StackError::PortTaken { server: NAME, port } } else { failed(ended.status) }));
        }
        greets(port, name).then_some(Ok(()))
    });
    seen.unwrap_or_else(|| Err(failed(format!("not ready after {} s", READY_WITHIN.as_secs()))))
}

/// Whether our server answers on the port, with JetStream on: its first line is `INFO {…}`.
fn greets(port: u16, name: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    };
    let Ok(line) = ask() else { return false };
    let info: Option<serde_json::Value> = line.strip_prefix("INFO ").and_then(|rest| serde_json::from_str(rest).ok());
    info.is_some_and(|info| {
        info.get("server_name").and_then(|v| v.as_str()) == Some(name)
            && info.get("jetstream").and_then(serde_json::Value::as_bool) == Some(true)
    })
}
