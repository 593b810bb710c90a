//! How wide the embed stage is: faces a second through one real `embed-gpu` whose embedder takes no time, over a backlog, against
//! what one core can copy. The limits are taken in the same run over connections without client and stage runtime: a plain
//! subscription, and pulls of the same stream, one at a time and two. The processor time of worker and server tells which of
//! them is the limit.

use std::hint::black_box;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use facewire_contracts::subjects;
use facewire_domain::Stage;
use facewire_vision::AlignedFace;
use serde::Serialize;

use crate::table::table;

use super::crew::Crew;
use super::faces::Faces;
use super::lab::Lab;
use super::process::{children, cpu_seconds, thread_seconds};
use super::sink::{Came, Sink, Verdict};
use super::until;
use super::wire::{Delivered, Wire, publish};
use super::worker::Setting;

/// The plan.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// Faces of each backlog.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1000..))]
    faces: u64,
    /// Faces in one run, at most.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// What issue 13 asks of one worker.
const WANTED: f64 = 20_000.0;

/// Messages that are sent before the subscriber says that it has them, in groups of so many: the server drops a subscriber that is
/// 64 MiB behind.
const GROUP: u64 = 64;
const GROUPS: usize = 8;

/// Pulls of a bare connection: how many at a time, and messages of each. The first is as the stage's source pulls.
const PULLS: [(u64, u64); 3] = [(1, 64), (1, 512), (2, 512)];

/// Messages of a pull, and publishes in flight, of the stage: its own, and wide ones.
const STAGES: [(Option<usize>, Option<usize>); 3] = [(None, None), (Some(512), None), (Some(512), Some(2048))];

/// One way to move faces.
#[derive(Debug, Serialize)]
struct Line {
    what: String,
    faces_per_second: f64,
    /// Of what one core can copy.
    ratio: f64,
    /// Processor time of a face, of whoever takes it, and how many cores that and the server kept busy.
    cpu_microseconds: f64,
    cores: f64,
    server_cores: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
}

/// What was measured of one way.
struct Measured {
    faces: u64,
    seconds: f64,
    cpu: f64,
    server: f64,
}

impl Measured {
    /// Its ratio is for whoever knows the limit.
    fn line(&self, what: String) -> Line {
        let (faces, seconds) = (self.faces as f64, self.seconds.max(f64::MIN_POSITIVE));
        let faces_per_second = faces / seconds;
        Line {
            what,
            faces_per_second,
            ratio: 0.0,
            cpu_microseconds: self.cpu / faces * 1e6,
            cores: self.cpu / seconds,
            server_cores: self.server / seconds,
            verdict: None,
        }
    }
}

/// The calling thread's time: by the clock on the wall, and on a core.
struct Watch {
    started: Instant,
    cpu: f64,
}

impl Watch {
    fn start() -> anyhow::Result<Self> {
        Ok(Self { started: Instant::now(), cpu: thread_seconds()? })
    }

    /// What was done since; the server's part is for whoever knows it.
    fn stop(&self, faces: u64) -> anyhow::Result<Measured> {
        let (seconds, cpu) = (self.started.elapsed().as_secs_f64(), thread_seconds()? - self.cpu);
        anyhow::ensure!(cpu > 0.0, "{faces} faces took no processor time that was measured");
        Ok(Measured { faces, seconds, cpu, server: 0.0 })
    }
}

#[derive(Debug, Serialize)]
struct Report {
    faces: u64,
    face_bytes: usize,
    batch: u64,
    /// Faces that one core takes from a plain subscription and copies in a second of its own time.
    limit: f64,
    wanted: f64,
    lines: Vec<Line>,
}

pub(crate) async fn run(plan: Plan) -> anyhow::Result<bool> {
    let lab = Lab::start(plan.faces).await?;
    let mut lines = vec![copies(plan.faces)?.line("memcpy, one core".to_owned())];
    let plain = over(&lab, plan.faces, subscription).await?;
    let limit = plain.faces as f64 / plain.cpu;
    lines.push(plain.line("plain subscription, copied".to_owned()));
    for (pulls, width) in PULLS {
        eprintln!("bare pulls: {pulls} of {width}");
        let faces = Faces::new(plan.faces)?;
        faces.publish(&lab.bus, 0..faces.count).await?;
        let measured = over(&lab, plan.faces, move |url, faces| bare(url, faces, pulls, width)).await?;
        lines.push(measured.line(format!("bare pulls: {pulls} of {width} at a time, acked")));
    }
    for (pull, sink) in STAGES {
        let what = format!("embed-gpu: {}", described(pull, sink));
        eprintln!("{what}");
        let setting = Setting {
            nats: lab.url(),
            number: 0,
            batch: usize::try_from(plan.batch)?,
            run: Duration::ZERO,
            pull,
            sink,
        };
        let (measured, verdict) = stage(&lab, setting, plan.faces).await?;
        lines.push(Line { verdict: Some(verdict), ..measured.line(what) });
    }
    lines.iter_mut().for_each(|line| line.ratio = line.faces_per_second / limit);
    let (faces, batch, face_bytes) = (plan.faces, plan.batch, AlignedFace::BYTES);
    let report = Report { faces, face_bytes, batch, limit, wanted: WANTED, lines };
    if plan.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        show(&report);
    }
    let wrong: Vec<String> =
        report.lines.iter().filter_map(|line| line.verdict.as_ref()).flat_map(Verdict::wrong).collect();
    wrong.iter().for_each(|what| eprintln!("not as it must be: {what}"));
    Ok(wrong.is_empty())
}

fn described(pull: Option<usize>, sink: Option<usize>) -> String {
    let part = |name: &str, value: Option<usize>| match value {
        Some(value) => format!("{name} {value}"),
        None => format!("its own {name}"),
    };
    format!("{}, {}", part("pull", pull), part("sink window", sink))
}

/// Copies as many faces as a subscription does, from memory that no cache holds.
fn copies(faces: u64) -> anyhow::Result<Measured> {
    let source = vec![vec![7_u8; AlignedFace::BYTES]; 4096];
    let watch = Watch::start()?;
    for (_, face) in (0..faces).zip(source.iter().cycle()) {
        black_box(face.clone());
    }
    watch.stop(faces)
}

/// Measures what a blocking connection does on a thread of its own, and what the server needs for it.
async fn over(
    lab: &Lab,
    faces: u64,
    work: impl FnOnce(&str, u64) -> anyhow::Result<Measured> + Send + 'static,
) -> anyhow::Result<Measured> {
    let (url, server) = (lab.url(), server_seconds());
    let measured = tokio::task::spawn_blocking(move || work(&url, faces)).await??;
    Ok(Measured { server: server_seconds() - server, ..measured })
}

/// Of every nats-server that this process started; here there is one.
fn server_seconds() -> f64 {
    children("nats-server").into_iter().filter_map(cpu_seconds).sum()
}

/// One connection publishes faces without a stream, another takes and copies them.
fn subscription(url: &str, faces: u64) -> anyhow::Result<Measured> {
    const SUBJECT: &str = "wide.plain";
    let (mut from, mut to) = (Wire::connect(url)?, Wire::connect(url)?);
    to.subscribe(SUBJECT)?;
    let (taken, wait) = sync_channel(GROUPS);
    for _ in 0..GROUPS {
        taken.send(())?;
    }
    let sender = std::thread::spawn(move || {
        let message = publish(SUBJECT, "", &[7; AlignedFace::BYTES]);
        for number in 0..faces {
            if number.is_multiple_of(GROUP) && wait.recv().is_err() {
                break;
            }
            from.send(&message)?;
        }
        anyhow::Ok(())
    });
    let measured = take(&mut to, faces, &taken);
    // A sender that waits for a group to be taken ends with this. What went wrong with it comes first: then nothing came here.
    drop(taken);
    sender.join().map_err(|_| anyhow!("the sender panicked"))??;
    measured
}

/// Takes and copies the faces, and says so of each group.
fn take(wire: &mut Wire, faces: u64, taken: &SyncSender<()>) -> anyhow::Result<Measured> {
    let watch = Watch::start()?;
    for number in 1..=faces {
        black_box(receive(wire, number, faces)?.payload);
        if number.is_multiple_of(GROUP) {
            // Full or closed: the sender has all that it needs.
            let _ = taken.try_send(());
        }
    }
    watch.stop(faces)
}

/// The face of this number.
fn receive(wire: &mut Wire, number: u64, faces: u64) -> anyhow::Result<Delivered> {
    wire.receive().map_err(|error| anyhow!("{error:#}: {} of {faces} faces received", number - 1))
}

/// Pulls the backlog of the embed stage, copies and acks it, with so many pulls at a time. No more is asked for than there is:
/// a pull that stays open would outlive the connection, and be given what comes next.
fn bare(url: &str, faces: u64, pulls: u64, width: u64) -> anyhow::Result<Measured> {
    let (stream, consumer) = (Stage::Embed.stream(), subjects::consumer(Stage::Embed));
    // An inbox of its own: a pull of another that still waits must not be answered here.
    let inbox = format!("_INBOX.wide.{pulls}.{width}");
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
    let mut left = faces;
    let mut ask = || {
        let batch = width.min(left);
        left -= batch;
        if batch == 0 {
            return Vec::new();
        }
        publish(&next, &inbox, format!("{{\"batch\":{batch},\"expires\":30000000000}}").as_bytes())
    };
    let mut wire = Wire::connect(url)?;
    wire.subscribe(&inbox)?;
    let watch = Watch::start()?;
    for _ in 0..pulls {
        wire.send(&ask())?;
    }
    let mut acks = Vec::new();
    for number in 1..=faces {
        let delivered = receive(&mut wire, number, faces)?;
        anyhow::ensure!(delivered.status.is_empty(), "a pull ended: {}", delivered.status);
        acks.extend(publish(&delivered.reply, "", b"+ACK"));
        black_box(delivered.payload);
        if number.is_multiple_of(width) {
            acks.extend(ask());
        }
        if number.is_multiple_of(GROUP) || number == faces {
            wire.send(&acks)?;
            acks.clear();
        }
    }
    wire.settle()?;
    watch.stop(faces)
}

/// The real service over a backlog. Its sink is read afterwards: nobody else needs a core meanwhile.
async fn stage(lab: &Lab, setting: Setting, count: u64) -> anyhow::Result<(Measured, Verdict)> {
    let (bus, faces) = (&lab.bus, Faces::new(count)?);
    faces.publish(bus, 0..count).await?;
    let mut crew = Crew::new(setting);
    let server = server_seconds();
    crew.resize(1).await?;
    until(async || {
        crew.tend()?;
        anyhow::Ok(bus.stream_messages(Stage::Match.stream()).await? >= count)
    })
    .await?;
    let server = server_seconds() - server;
    let cpu = crew.processes().into_iter().filter_map(cpu_seconds).sum();
    crew.dismiss().await?;
    let sink = Sink::start(bus);
    until(async || anyhow::Ok(sink.look(|seen| seen.count()) >= count)).await?;
    let seen = sink.stop().await?;
    let verdict = Verdict::of(&seen, &faces, bus).await?;
    let seconds = span(&seen.faces).context("nothing came out")?;
    Ok((Measured { faces: count, seconds, cpu, server }, verdict))
}

/// From the first face to the last.
fn span(faces: &[Came]) -> Option<f64> {
    let times = || faces.iter().map(|face| face.at);
    let (first, last) = (times().min_by(f64::total_cmp)?, times().max_by(f64::total_cmp)?);
    Some(last - first)
}

fn show(report: &Report) {
    println!("{} faces of {} bytes, in runs of {}", report.faces, report.face_bytes, report.batch);
    let line = |line: &Line| {
        vec![
            line.what.clone(),
            format!("{:.0}", line.faces_per_second),
            format!("{:.3}", line.ratio),
            format!("{:.1}", line.cpu_microseconds),
            format!("{:.2}", line.cores),
            format!("{:.2}", line.server_cores),
        ]
    };
    let header = ["", "faces/s", "of the limit", "µs of a core", "cores", "server's"];
    println!("{}", table(&header, report.lines.iter().map(line)));
    println!("limit: {:.0} faces in a second of one core; wanted of a worker: {:.0}", report.limit, report.wanted);
}
