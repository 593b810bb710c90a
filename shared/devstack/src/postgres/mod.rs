//! A PostgreSQL server as a child process, on loopback, with a password. Tables, queries and SQL clients must not come
//! in: those are store-pg's.

mod cluster;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use facewire_artifacts::offload::{Cancel, offload};
use facewire_artifacts::process::{Process, poll, run_tool};
use nix::sys::signal::Signal;

use crate::dirs::make_dir;
use crate::error::{At, StackError};
use crate::lock::DirLock;
use crate::ports;
use crate::process::{Account, Managed, Spec, check_reach, fresh_log, log_tail};

const NAME: &str = "postgres";

/// The superuser of the cluster; the operating system's users have nothing to do with it.
const ROLE: &str = "facewire";

/// The database that exists from the first start on.
pub const DATABASE: &str = "facewire";

/// Recovery after a crash replays the log first.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How to start one.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The directory of `postgres`, `initdb` and `createdb`.
    pub bin: PathBuf,
    /// Its own directory: data, password and log. Created where missing; kept from start to start.
    pub dir: PathBuf,
    /// The port on 127.0.0.1; `None` takes a free one.
    pub port: Option<u16>,
    /// Whether commits survive a crash of the machine. Off only for data that is thrown away: a crash of the server
    /// alone loses nothing either way.
    pub fsync: bool,
    /// A cluster to copy instead of running `initdb` (made where missing, without fsync): for tests.
    pub template: Option<PathBuf>,
}

/// A running PostgreSQL. Dropping it stops the server.
pub struct PostgresServer {
    server: Managed,
    bin: PathBuf,
    password: String,
    port: u16,
    _lock: DirLock,
}

impl PostgresServer {
    /// Creates the cluster at the first start, starts the server and waits until it takes connections.
    ///
    /// # Errors
    /// [`StackError::InUse`], [`StackError::PortTaken`] for a named port, [`StackError::Unreachable`] and
    /// [`StackError::NoUser`] as root, [`StackError::Start`] with the log's end.
    pub async fn start(options: PostgresOptions) -> Result<Self, StackError> {
        offload(move |cancel| Self::start_blocking(&options, cancel)).await
    }

    pub(crate) fn start_blocking(options: &PostgresOptions, cancel: &Cancel) -> Result<Self, StackError> {
        let account = Account::for_postgres()?;
        make_dir(&options.dir, 0o711)?;
        let lock = DirLock::take(&options.dir)?;
        for path in [&options.dir, &options.bin] {
            check_reach(account.as_ref(), path)?;
        }
        let password = cluster::prepare(options, account.as_ref(), cancel)?;
        let spec = Spec {
            name: NAME,
            // "Fast": ends the sessions and writes a checkpoint. SIGTERM would wait for every client to leave.
            stop: Signal::SIGINT,
            grace: Duration::from_secs(30),
            // "Immediate": all processes and shared memory go, the log is replayed at the next start.
            on_drop: Signal::SIGQUIT,
            log: options.dir.join("postgres.log"),
        };
        let (server, port) = ports::with_port(NAME, options.port, |port| {
            let (options, account) = (options.clone(), account.clone());
            let start = move |cancel: &Cancel| launch(&options, account.as_ref(), port, cancel);
            Managed::start(spec.clone(), cancel, start).map(|server| (server, port))
        })?;
        let this = Self { server, bin: options.bin.clone(), password, port, _lock: lock };
        this.create_database_blocking(DATABASE, cancel)?;
        Ok(this)
    }

    /// The connection URL of the database [`DATABASE`]; it holds the password, so it must not be logged.
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    /// The connection URL of another database.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{ROLE}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Creates an empty database unless it is there, and returns its URL. The name should be `[a-z0-9_]+`, as it goes
    /// into a URL.
    ///
    /// # Errors
    /// [`StackError::Tool`] with what `createdb` said.
    pub async fn create_database(&self, name: &str) -> Result<String, StackError> {
        let name = name.to_owned();
        let call = self.tool_call("createdb", &[], &name);
        offload(move |cancel| run_client(call, "already exists", cancel)).await?;
        Ok(self.url_of(&name))
    }

    /// Drops a database and whoever is connected to it.
    ///
    /// # Errors
    /// [`StackError::Tool`] with what `dropdb` said.
    pub async fn drop_database(&self, name: &str) -> Result<(), StackError> {
        let call = self.tool_call("dropdb", &["--force", "--if-exists"], name);
        offload(move |cancel| run_client(call, "", cancel)).await
    }

    pub(crate) fn create_database_blocking(&self, name: &str, cancel: &Cancel) -> Result<(), StackError> {
        run_client(self.tool_call("createdb", &[], name), "already exists", cancel)
    }

    pub(crate) fn drop_database_blocking(&self, name: &str) -> Result<(), StackError> {
        let call = self.tool_call("dropdb", &["--force", "--if-exists"], name);
        run_client(call, "", &Cancel::default())
    }

    /// A client program may run as us: it only connects.
    fn tool_call(&self, program: &str, flags: &[&str], database: &str) -> Command {
        let mut command = plain_command(&self.bin.join(program));
        command.args(["--host", "127.0.0.1", "--port", &self.port.to_string(), "--username", ROLE, "--no-password"]);
        command.args(flags).arg("--").arg(database).env("PGPASSWORD", &self.password);
        command
    }
}

crate::controls::controls!(PostgresServer);

/// Runs a program of PostgreSQL; a failure whose words contain `harmless` (unless empty) is none.
fn run_client(command: Command, harmless: &str, cancel: &Cancel) -> Result<(), StackError> {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let talk = tempfile::NamedTempFile::new().at("cannot create a file in", &std::env::temp_dir())?;
    let run =
        run_tool(command, talk.path(), cancel, || {}).at("cannot run a program of PostgreSQL for", talk.path())?;
    if run.ended.success || (!harmless.is_empty() && run.tail.contains(harmless)) {
        return Ok(());
    }
    Err(StackError::Tool { program, status: run.ended.status, output: run.tail })
}

/// A command without our environment: PGHOST and its kin, and another user's HOME, would only mislead.
fn plain_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in ["PATH", "LD_LIBRARY_PATH", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

fn launch(
    options: &PostgresOptions,
    account: Option<&Account>,
    port: u16,
    cancel: &Cancel,
) -> Result<Process, StackError> {
    let data = options.dir.join("data");
    cluster::clear_stale_pid(&data)?;
    // After a kill -9 the old server's processes leave one by one, and until the last a new one is refused.
    let mut last = None;
    poll(Duration::from_secs(15), || match launch_once(options, account, port, cancel) {
        Err(StackError::Start { tail, .. }) if is_predecessor(&tail) && !cancel.is_set() => {
            std::thread::sleep(Duration::from_millis(50));
            last = Some(tail);
            None
        }
        other => Some(other),
    })
    .unwrap_or_else(|| {
        let why = "the server before it does not leave its data directory".to_owned();
        Err(StackError::Start { server: NAME, why, log: log_path(options), tail: last.unwrap_or_default() })
    })
}

fn is_predecessor(log: &str) -> bool {
    log.contains("pre-existing shared memory block") || log.contains("lock file \"postmaster.pid\" already exists")
}

fn log_path(options: &PostgresOptions) -> PathBuf {
    options.dir.join("postgres.log")
}

fn launch_once(
    options: &PostgresOptions,
    account: Option<&Account>,
    port: u16,
    cancel: &Cancel,
) -> Result<Process, StackError> {
    if !ports::is_free(port) {
        return Err(StackError::PortTaken { server: NAME, port });
    }
    let data = options.dir.join("data");
    let log = log_path(options);
    let out = fresh_log(&log).at("cannot open the log", &log)?;
    let mut command = plain_command(&options.bin.join("postgres"));
    command.arg("-D").arg(&data).current_dir(&data).stdin(Stdio::null());
    for setting in settings(port, options.fsync) {
        command.args(["-c", &setting]);
    }
    command.stdout(out.try_clone().at("cannot open the log", &log)?).stderr(out);
    if let Some(account) = account {
        account.apply(&mut command);
    }
    // SIGQUIT, not SIGKILL: the postmaster takes its children and shared memory with it.
    let process = Process::start(command, Signal::SIGQUIT).at("cannot start postgres", &options.bin)?;
    let outcome = wait_ready(&process, &data, port, &log, cancel);
    if outcome.is_err() {
        process.stop(Signal::SIGQUIT, Duration::from_secs(5));
    }
    outcome.map(|()| process)
}

/// The settings that differ from PostgreSQL's own.
fn settings(port: u16, fsync: bool) -> Vec<String> {
    let mut settings = vec![
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        // No socket in the file system: nothing to be left behind, no path limit of 107 bytes.
        "unix_socket_directories=".to_owned(),
        "max_connections=200".to_owned(),
        "shared_buffers=64MB".to_owned(),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
        // Rows hold embeddings, and a failing statement's text or detail would carry them into the log.
        "log_error_verbosity=terse".to_owned(),
        "log_min_error_statement=panic".to_owned(),
        "log_checkpoints=off".to_owned(),
    ];
    if !fsync {
        // synchronous_commit stays on: what was committed is with the kernel and survives a kill -9 of the server.
        settings.extend(["fsync=off", "full_page_writes=off"].map(str::to_owned));
    }
    settings
}

fn wait_ready(process: &Process, data: &Path, port: u16, log: &Path, cancel: &Cancel) -> Result<(), StackError> {
    let failed = |why: String| StackError::Start { server: NAME, why, log: log.to_owned(), tail: log_tail(log) };
    let pid_file = data.join("postmaster.pid");
    let seen = poll(READY_WITHIN, || {
        if cancel.is_set() {
            return Some(Err(StackError::Interrupted));
        }
        if let Some(ended) = process.status() {
            let taken = log_tail(log).contains("Address already in use");
            return Some(Err(if taken { StackError::PortTaken { server: NAME, port } } else { failed(ended.status) }));
        }
        let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
        is_ready(&text, process.pid().as_raw()).then_some(Ok(()))
    });
    seen.unwrap_or_else(|| Err(failed(format!("not ready after {} s", READY_WITHIN.as_secs()))))
}

/// PostgreSQL writes its state into the eighth line of postmaster.pid; the first is its process id.
fn is_ready(pid_file: &str, pid: i32) -> bool {
    let mut lines = pid_file.lines();
    let ours = lines.next().and_then(|line| line.trim().parse().ok()) == Some(pid);
    ours && lines.nth(6).is_some_and(|state| state.trim() == "ready")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_the_eighth_line_of_our_own_server() {
        let file = |state: &str| format!("42\n/data\n1795320967\n25001\n\n127.0.0.1\n 10051601        13\n{state}\n");
        assert!(is_ready(&file("ready   "), 42));
        assert!(!is_ready(&file("starting"), 42) && !is_ready(&file("ready   "), 43));
        assert!(!is_ready("42\n", 42) && !is_ready("", 42));
    }

    #[test]
    fn statements_never_reach_the_log() {
        let settings = settings(1, true);
        for setting in ["log_error_verbosity=terse", "log_min_error_statement=panic", "listen_addresses=127.0.0.1"] {
            assert!(settings.iter().any(|line| line == setting), "{setting}");
        }
        assert!(!settings.iter().any(|line| line == "fsync=off"));
    }
}
