//! Every service as a process of its own on the servers of one test, told where to send its telemetry. Ends with the test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use facewire_bus::{Bus, Message, Results};
use facewire_config::Secret;
use facewire_contracts::admission::admission;
use facewire_contracts::{Message as _, ProducerHeaders, headers, subjects, v1};
use facewire_devstack::testing::{self, TestStack};
use facewire_domain::Stage;
use facewire_telemetry::testing::Receiver;
use facewire_vision::degrade::shrink;
use facewire_vision::encode::encode_jpeg;
use facewire_vision::{DecodeLimits, decode};
use time::OffsetDateTime;

/// Longest wait for anything.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Every service by name.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    facewire_composition::Service::all().into_iter().map(facewire_composition::Service::name)
}

/// `facewire migrate` on these servers: a dry run finds everything to do, the second nothing any more.
pub(crate) fn migrate(stack: &TestStack) {
    let migrate = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_facewire"));
        command.arg("migrate").args(arguments).args(["--nats", &stack.nats_url, "--postgres", &stack.postgres_url]);
        let output = command.args(["--qdrant", &stack.qdrant_url]).output().unwrap();
        let status = output.status.code();
        (status, String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, plan, error) = migrate(&["--dry-run", "--json"]);
    assert_eq!(status, Some(3), "{error}");
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert!(plan["changes"].as_array().unwrap().iter().any(|change| change["store"] == "qdrant"), "{plan}");
    let (status, table, error) = migrate(&[]);
    assert!(status == Some(0) && table.contains(Stage::Ingest.stream()), "{table}{error}");
    let (status, table, error) = migrate(&["--dry-run"]);
    assert!(status == Some(0) && table.contains("nothing to do"), "{table}{error}");
}

/// One service's process.
pub(crate) struct Service {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    pub(crate) fn start(name: &str, stack: &TestStack, collector: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_facewire"))
            .args(["run", name, "--health", "127.0.0.1:0"])
            .args(["--nats", &stack.nats_url, "--postgres", &stack.postgres_url, "--qdrant", &stack.qdrant_url])
            .env("FACEWIRE__GATEWAY__LISTEN", "127.0.0.1:0")
            // A delivery that fails is given up at once.
            .env("FACEWIRE__GATEWAY__WEBHOOKS__ATTEMPTS", "1")
            .env("FACEWIRE__TELEMETRY__FORMAT", "json")
            // Fewer than send: one is counted among the others.
            .env("FACEWIRE__TELEMETRY__CAMERAS", "3")
            .env("FACEWIRE__TELEMETRY__OTLP__ENDPOINT", collector)
            // The reconciler has something to say soon.
            .env("FACEWIRE__RECONCILER__INTERVAL", "1s")
            .env("FACEWIRE__RECONCILER__FULL_INTERVAL", "2s")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (read, heard) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&lines));
        // Ends with the process.
        std::thread::spawn(move || {
            read.lines().map_while(Result::ok).for_each(|line| heard.lock().unwrap().push(line))
        });
        Self { child, lines }
    }

    /// Where it answers `/metrics`, once it has said so.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address_in("health and metrics endpoints")
    }

    /// The address in the first line that says this.
    fn address_in(&self, said: &str) -> Option<SocketAddr> {
        let lines = self.lines.lock().unwrap();
        let line = lines.iter().find(|line| line.contains(said))?;
        serde_json::from_str::<serde_json::Value>(line).ok()?["address"].as_str()?.parse().ok()
    }

    /// Where the gateway answers whoever uses its API, once it has said so.
    pub(crate) fn api(&self) -> Option<SocketAddr> {
        self.address_in("the gateway listens")
    }

    pub(crate) fn ask_to_finish(&self) {
        let id = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    /// How it ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

/// Servers, a collector, and every service.
pub(crate) struct Deployment {
    pub(crate) collector: Receiver,
    pub(crate) services: Vec<Service>,
    bus: Bus,
    results: Results,
    // Ends last.
    _stack: TestStack,
}

impl Deployment {
    pub(crate) async fn start() -> Self {
        let stack = TestStack::start().await.unwrap();
        migrate(&stack);
        let collector = Receiver::grpc().await;
        let options = facewire_bus::Options { url: Secret::new(stack.nats_url.clone()), ..Default::default() };
        let bus = Bus::connect(&options, "producer").await.unwrap();
        let results = bus.results("results.>", true).await.unwrap();
        let services = names().map(|name| Service::start(name, &stack, collector.url())).collect();
        Self { collector, services, bus, results, _stack: stack }
    }

    /// Publishes a picture as a producer would, with a trace of its own, and waits for the result.
    pub(crate) async fn ask(&mut self, camera: &str, image: Vec<u8>, more: &[(&'static str, &str)]) -> v1::Result {
        let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let subject = subjects::crops(&"office".parse().unwrap(), &camera.parse().unwrap());
        let message = Message { subject, id: None, headers: more.collect(), payload: image.into() };
        self.bus.publish(message).await.unwrap();
        loop {
            let event = tokio::time::timeout(TIMEOUT, self.results.next()).await;
            let event = event.unwrap_or_else(|_| panic!("no result of {camera}: {}", self.said())).unwrap();
            let result = event.result.unwrap();
            if result.camera == camera {
                return result;
            }
        }
    }

    /// What the services logged so far.
    fn said(&self) -> String {
        let lines = |service: &Service| service.lines.lock().unwrap().join("\n");
        self.services.iter().map(lines).collect::<Vec<_>>().join("\n")
    }

    /// A face without its pixels comes to the embed stage, as no stage sends it: a crop that fails.
    pub(crate) async fn fail(&self) {
        let (headers, now) = (ProducerHeaders::default(), OffsetDateTime::now_utc());
        let crop = admission("crops.office.broken", &headers, now, b"nothing").unwrap().crop;
        let task = v1::EmbedTask { crop: Some(crop), ..v1::EmbedTask::default() };
        let (subject, payload) = (subjects::stage(Stage::Embed, "office"), task.encode_to_vec().into());
        self.bus.publish(Message { subject, payload, ..Message::default() }).await.unwrap();
    }

    /// A job that ends soon, of the collection that the crops made. The gateway is asked for it: rules count requests to its API.
    pub(crate) async fn job(&self) {
        let begun = self.http("POST", "/api/v1/faces/prototypes?collection=office", "{}").await;
        assert!(begun.starts_with("HTTP/1.1 202"), "{begun}");
    }

    /// What the gateway answers; see [`http`].
    pub(crate) async fn http(&self, method: &'static str, path: &'static str, body: &'static str) -> String {
        let address = until("the gateway's address", || self.services.iter().find_map(Service::api)).await;
        tokio::task::spawn_blocking(move || http(address, method, path, body)).await.unwrap().unwrap()
    }

    /// Where the services answer `/metrics`.
    pub(crate) async fn addresses(&self) -> Vec<SocketAddr> {
        until("every service's address", || self.services.iter().map(Service::address).collect()).await
    }

    /// Asks every service to finish, and waits until they have: what they have not exported yet comes now.
    pub(crate) async fn finish(&mut self) {
        self.services.iter().for_each(Service::ask_to_finish);
        for (service, name) in self.services.iter_mut().zip(names()) {
            let status = until("the end of a service", || service.ended()).await;
            assert!(status.success(), "{name}: {status}: {}", service.lines.lock().unwrap().join("\n"));
        }
    }
}

/// A person enrolled, the same person asked for, a stranger, and a picture too dark: one crop of each ending that a chain
/// has in order.
pub(crate) async fn four_crops(deployment: &mut Deployment, trace: &str) -> Vec<v1::Result> {
    let samples = testing::samples().await.unwrap();
    let person = samples.people().into_iter().find(|person| person.subject == "barack-obama").unwrap();
    let read = |path: &std::path::Path| std::fs::read(path).unwrap();
    let picture = decode(&read(&person.enroll), &DecodeLimits::default()).unwrap();
    let far = shrink(&picture, picture.width() / 12, picture.height() / 12);
    let traced = (headers::TRACEPARENT, trace);
    let enrol = [traced, (headers::INTENT, "enroll"), (headers::SUBJECT, "7"), (headers::NAME, "Seven")];
    vec![
        deployment.ask("desk", read(&person.enroll), &enrol).await,
        deployment.ask("door", read(&person.enroll), &[traced]).await,
        deployment.ask("hall", read(&samples.strangers().remove(0)), &[traced]).await,
        deployment.ask("cellar", encode_jpeg(&far, 90).unwrap(), &[traced]).await,
    ]
}

/// What is answered there, with the status line; `body` is JSON, or empty. Blocks.
pub(crate) fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    let of_body = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{of_body}{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Waits until there is something.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < TIMEOUT, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
