//! The plan: jobs of four kinds over a collection while the service `jobs`, Postgres and the vector engine are killed, and the
//! same jobs in peace over a collection with the same faces. Then both are the same, and each job came to one end. A training, which
//! changes no face, runs twice over one collection, and both heads are the same.

pub(crate) mod crowd;
pub(crate) mod people;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use facewire_domain::CollectionId;
use facewire_reconciler::PassOptions;
use facewire_store_pg::{AuditFilter, Store};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Instant, sleep};

use crate::check::SILENCE;
use crate::dice::Dice;
use crate::imports::client::call;
use crate::service::Limits;
use crate::table::{row, table};
use crate::world::{World, played};

use crowd::Crowd;

/// What is played. The defaults are every kind under every kill; the long plan is `--kills 30 --faces 3000`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// Jobs under which something is killed.
    #[arg(long, default_value_t = 12)]
    kills: u32,
    /// Faces that come to each of the two collections before each round of the four kinds.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(300..))]
    faces: u64,
    /// The same seed makes the same faces, and strikes at the same parts of the same jobs; a new one each time unless named.
    #[arg(long)]
    seed: Option<u64>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// In the order of a round.
const KINDS: [&str; 4] = ["cluster", "assign", "prototypes", "train"];
/// What is killed, in turn: their number and that of the kinds have no factor in common, so that each meets each.
const TARGETS: [&str; 3] = ["jobs", "postgres", "qdrant"];
/// What runs beside the vector engine. Nobody sends crops.
const SERVICES: [&str; 3] = ["gateway", "reconciler", "jobs"];

/// A killed worker's message comes back after a minute; no job takes longer than this.
const PATIENCE: Duration = Duration::from_secs(240);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Jobs of the first three kinds over both collections, behind which there are clusters, people and prototypes.
const WHOLE: u64 = 6;
/// One in so many clusters gets a name in the first round.
const NAMED: u64 = 3;

/// What a plan did and what was left.
#[derive(Debug, Serialize)]
struct Report {
    seed: u64,
    /// By kind and by what was killed.
    kills: BTreeMap<String, u64>,
    /// Kills that found their job queued or running; the others came just after its end.
    in_time: u64,
    /// Most attempts of one job.
    most_attempts: u64,
    /// Jobs over both collections, and those that succeeded.
    jobs: u64,
    succeeded: u64,
    /// Jobs of which the audit trail has no end, or more than one.
    not_once: u64,
    /// Of the collection that was struck, in the end.
    faces: u64,
    clusters: u64,
    persons: u64,
    prototypes: u64,
    /// Faces with another cluster, another person, or another part as a prototype than in peace, over all comparisons.
    different: u64,
    /// Trainings under a kill whose head is not that of the training in peace.
    heads_different: u64,
    /// Processes that ended by themselves.
    gave_up: u64,
    orphans_after_reconcile: u64,
    seconds: f64,
}

impl Report {
    /// Everything that is not as it must be, or did not happen.
    fn wrong(&self) -> Vec<String> {
        let all = [("clusters", self.clusters), ("persons", self.persons), ("prototypes", self.prototypes)];
        let none: Vec<&str> = all.into_iter().filter(|(_, count)| *count == 0).map(|(what, _)| what).collect();
        [
            (self.succeeded < self.jobs, format!("{} of {} jobs succeeded", self.succeeded, self.jobs)),
            (self.in_time == 0, "no kill came before the end of its job".to_owned()),
            (self.not_once > 0, format!("{} jobs came to no end, or to several", self.not_once)),
            (self.different > 0, format!("{} faces differ from those in peace", self.different)),
            (self.heads_different > 0, format!("{} heads differ from those in peace", self.heads_different)),
            (self.orphans_after_reconcile > 0, format!("{} orphans are left", self.orphans_after_reconcile)),
            (self.gave_up > 0, format!("{} processes ended by themselves", self.gave_up)),
            (self.jobs >= WHOLE && !none.is_empty(), format!("nothing was compared: no {}", none.join(", no "))),
        ]
        .into_iter()
        .filter_map(|(is_wrong, what)| is_wrong.then_some(what))
        .collect()
    }
}

/// A time of a job.
fn time_of(job: &Value, field: &str) -> anyhow::Result<OffsetDateTime> {
    let time = job.get(field).and_then(Value::as_str).with_context(|| format!("a job without {field}"))?;
    Ok(OffsetDateTime::parse(time, &Rfc3339)?)
}

pub(crate) async fn run(plan: Plan) -> anyhow::Result<bool> {
    let seed =
        plan.seed.unwrap_or_else(|| u64::from(std::process::id()) ^ OffsetDateTime::now_utc().nanosecond() as u64);
    eprintln!("seed {seed}");
    let report = played(Limits::patient(), plan.json, async |world| play(world, &plan, seed).await, show).await?;
    let wrong = report.wrong();
    wrong.iter().for_each(|what| eprintln!("not as it must be: {what}"));
    Ok(wrong.is_empty())
}

async fn play(world: &mut World, plan: &Plan, seed: u64) -> anyhow::Result<Report> {
    let started = Instant::now();
    let bus = world.open(&SERVICES).await?;
    let gallery = world.places.parts(bus.clone()).await?.gallery()?;
    let people: CollectionId = "people".parse()?;
    // A plan without a training does without them.
    if plan.kills as usize >= KINDS.len() {
        people::enrol(&gallery, &people, seed).await?;
    }
    let mut crowds = [Crowd::new(&gallery, "calm", 1, seed)?, Crowd::new(&gallery, "struck", 2, seed)?];
    let mut work = Work::new(world.places.gateway, seed);
    kills(world, plan, &mut crowds, &people, &mut work).await?;
    // What is younger than this may be in flight; by now nothing is.
    let reconciler = world.places.reconciler(bus, Duration::ZERO).await?;
    reconciler.full(PassOptions::default(), SILENCE, &|_| {}).await?;
    let look = PassOptions { fix: false, ..PassOptions::default() };
    let orphans = reconciler.full(look, SILENCE, &|_| {}).await?.total_found();
    let [_, struck] = crowds;
    let end = struck.counts().await?;
    Ok(Report {
        seed,
        not_once: work.not_once(&gallery.store).await?,
        jobs: work.jobs.len() as u64,
        kills: work.kills,
        in_time: work.in_time,
        most_attempts: work.most_attempts,
        succeeded: work.succeeded,
        faces: end.faces,
        clusters: end.clusters,
        persons: end.persons,
        prototypes: end.prototypes,
        different: work.different,
        heads_different: work.heads_different,
        gave_up: world.fleet.gave_up,
        orphans_after_reconcile: orphans,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Each job in peace, the same under a kill, and both compared.
async fn kills(
    world: &mut World,
    plan: &Plan,
    [calm, struck]: &mut [Crowd; 2],
    people: &CollectionId,
    work: &mut Work,
) -> anyhow::Result<()> {
    for kill in 0..plan.kills as usize {
        let kind_and_target = (KINDS.get(kill % KINDS.len()), TARGETS.get(kill % TARGETS.len()));
        let (Some(&kind), Some(&target)) = kind_and_target else { continue };
        if kill.is_multiple_of(KINDS.len()) {
            calm.grow(plan.faces).await?;
            struck.grow(plan.faces).await?;
        }
        let trains = kind == "train";
        let [one, other] = if trains { [people, people] } else { [&calm.collection, &struck.collection] };
        let (peace, undisturbed) = work.in_peace(world, one, kind).await?;
        let disturbed = work.under_a_kill(world, other, (kind, target), peace).await?;
        struck.searchable().await?;
        if kill == 0 {
            for crowd in [&*calm, &*struck] {
                name_some(work.at, crowd).await?;
            }
        }
        let heads = [people::head(&undisturbed), people::head(&disturbed)];
        if trains && (heads.contains(&None) || heads.first() != heads.last()) {
            eprintln!("{heads:?} are the heads after a kill of {target}");
            work.heads_different += 1;
        }
        let differences = same(calm, struck, kind == "prototypes").await?;
        if differences > 0 {
            eprintln!("{differences} faces differ after {kind} under a kill of {target}");
        }
        work.different += differences;
    }
    Ok(())
}

/// Jobs over HTTP, and what became of them.
struct Work {
    at: SocketAddr,
    dice: Dice,
    jobs: Vec<String>,
    succeeded: u64,
    kills: BTreeMap<String, u64>,
    in_time: u64,
    most_attempts: u64,
    different: u64,
    heads_different: u64,
}

impl Work {
    fn new(at: SocketAddr, seed: u64) -> Self {
        let (dice, jobs, kills) = (Dice::new(seed), Vec::new(), BTreeMap::new());
        let (succeeded, in_time, most_attempts, different, heads_different) = Default::default();
        Self { at, dice, jobs, succeeded, kills, in_time, most_attempts, different, heads_different }
    }

    /// How long the job takes where nobody disturbs it, and its end.
    async fn in_peace(
        &mut self,
        world: &mut World,
        collection: &CollectionId,
        kind: &str,
    ) -> anyhow::Result<(Duration, Value)> {
        let job = self.begin(world, collection, kind).await?;
        let ended = self.ended(world, &job).await?;
        // Its own times: how long it takes to hear of its end is no time to kill in.
        let took = time_of(&ended, "finishedAt")? - time_of(&ended, "createdAt")?;
        Ok((took.unsigned_abs(), ended))
    }

    /// Kills at a random moment of three quarters of the time that the job took in peace, which was the first and slower than
    /// others; the job's end.
    async fn under_a_kill(
        &mut self,
        world: &mut World,
        collection: &CollectionId,
        (kind, target): (&str, &'static str),
        peace: Duration,
    ) -> anyhow::Result<Value> {
        let moment = Duration::from_micros(self.dice.between(0, u64::try_from(peace.as_micros() * 3 / 4)?));
        let job = self.begin(world, collection, kind).await?;
        sleep(moment).await;
        let struck = OffsetDateTime::now_utc();
        strike(world, target).await?;
        *self.kills.entry(format!("{kind} {target}")).or_default() += 1;
        let ended = self.ended(world, &job).await?;
        self.in_time += u64::from(time_of(&ended, "finishedAt")? > struck);
        Ok(ended)
    }

    /// Nothing is away when a job begins: only a job that the plan knows of runs.
    async fn begin(&mut self, world: &mut World, collection: &CollectionId, kind: &str) -> anyhow::Result<String> {
        insist(world, self.at, "GET", "/api/v1/system", None).await?;
        let path = format!("/api/v1/faces/{kind}?collection={collection}");
        let told = if kind == "train" { people::training() } else { json!({}) };
        let begun = insist(world, self.at, "POST", &path, Some(told)).await?;
        let job = text(&begun, "jobId").context("a job without an id")?;
        self.jobs.push(job.clone());
        Ok(job)
    }

    /// Waits for the end of a job.
    async fn ended(&mut self, world: &mut World, job: &str) -> anyhow::Result<Value> {
        let (began, path) = (Instant::now(), format!("/api/v1/jobs/{job}"));
        loop {
            let now = insist(world, self.at, "GET", &path, None).await?;
            if now.get("finishedAt").is_some_and(Value::is_string) {
                let has_succeeded = text(&now, "state").as_deref() == Some("succeeded");
                if !has_succeeded {
                    eprintln!("no success: {now}");
                }
                self.succeeded += u64::from(has_succeeded);
                let attempts = now.get("attempt").and_then(Value::as_u64).unwrap_or(0);
                self.most_attempts = self.most_attempts.max(attempts);
                return Ok(now);
            }
            anyhow::ensure!(began.elapsed() < PATIENCE, "a job does not end: {now}");
            sleep(PAUSE).await;
        }
    }

    /// Jobs that came to no end, or to several.
    async fn not_once(&self, store: &Store) -> anyhow::Result<u64> {
        let filter = AuditFilter { kind: Some("job.finished".to_owned()), ..AuditFilter::default() };
        let (mut ends, mut before): (BTreeMap<String, u64>, Option<i64>) = (BTreeMap::new(), None);
        loop {
            let page = store.audit_trail(&filter, before, 1000).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            for job in page.iter().filter_map(|event| text(&event.detail, "jobId")) {
                *ends.entry(job).or_default() += 1;
            }
        }
        Ok(self.jobs.iter().filter(|job| ends.get(*job) != Some(&1)).count() as u64)
    }
}

async fn strike(world: &mut World, target: &'static str) -> anyhow::Result<()> {
    if target == "postgres" {
        world.stack.postgres.kill9().await?;
        world.stack.postgres.restart().await?;
        return Ok(());
    }
    world.fleet.kill(target).await
}

/// Asks until there is an answer.
async fn insist(
    world: &mut World,
    at: SocketAddr,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<Value> {
    let began = Instant::now();
    loop {
        world.fleet.tend()?;
        match call(at, method, path, body.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(error) if began.elapsed() > SILENCE => return Err(error),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Names some clusters, the same in every collection with the same faces.
async fn name_some(at: SocketAddr, crowd: &Crowd) -> anyhow::Result<()> {
    let collection = &crowd.collection;
    let list = format!("/api/v1/faces/clusters?collection={collection}&pageSize=1000");
    for cluster in items(&call(at, "GET", &list, None).await?, "items") {
        let path =
            format!("/api/v1/faces/clusters/{}", text(&cluster, "clusterId").context("a cluster without an id")?);
        let shown = call(at, "GET", &format!("{path}?collection={collection}&pageSize=1000"), None).await?;
        let numbers = items(&shown, "faces").iter().filter_map(|face| crowd.number(&text(face, "id")?)).min();
        if let Some(lowest) = numbers.filter(|lowest| lowest.is_multiple_of(NAMED)) {
            let name = json!({ "name": format!("Person {lowest}") });
            call(at, "POST", &format!("{path}/label?collection={collection}"), Some(name)).await?;
        }
    }
    Ok(())
}

/// Faces that are not the same in both, once prototypes that are kept up to date beside the jobs have settled.
async fn same(calm: &Crowd, struck: &Crowd, with_prototypes: bool) -> anyhow::Result<u64> {
    let began = Instant::now();
    loop {
        let (one, other) = (calm.faces(with_prototypes).await?, struck.faces(with_prototypes).await?);
        let alike = one.iter().filter(|(number, said)| other.get(number) == Some(said)).count();
        let different = one.len().max(other.len()) - alike;
        if different == 0 || began.elapsed() > SILENCE / 4 {
            return Ok(different as u64);
        }
        sleep(PAUSE * 10).await;
    }
}

fn items(answer: &Value, at: &str) -> Vec<Value> {
    answer.get(at).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn text(answer: &Value, at: &str) -> Option<String> {
    Some(answer.get(at)?.as_str()?.to_owned())
}

fn show(report: &Report) {
    let kills: Vec<String> = report.kills.iter().map(|(what, count)| format!("{what} {count}")).collect();
    let rows = [
        row("seed", report.seed),
        row("killed under", kills.join(", ")),
        row("kills before the end of their job", report.in_time),
        row(
            "jobs, succeeded, most attempts",
            format!("{}, {}, {}", report.jobs, report.succeeded, report.most_attempts),
        ),
        row("jobs without one end", report.not_once),
        row(
            "faces, clusters, persons, prototypes",
            format!("{}, {}, {}, {}", report.faces, report.clusters, report.persons, report.prototypes),
        ),
        row(
            "faces, heads that differ from those in peace",
            format!("{}, {}", report.different, report.heads_different),
        ),
        row("processes that ended", report.gave_up),
        row("orphans after one reconcile", report.orphans_after_reconcile),
        row("time", format!("{:.0} s", report.seconds)),
    ];
    println!("{}", table(&["", "value"], rows));
    println!("{}", if report.wrong().is_empty() { "everything is as it must be" } else { "NOT as it must be" });
}
