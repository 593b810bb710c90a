//! `facewire jobs` and `facewire faces` as an operator runs them, on planted jobs and faces. No worker runs: whatever
//! one would do, the tests do to the rows.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use facewire_config::Secret;
use facewire_devstack::testing::{self, TestStack};
use facewire_domain::{CollectionId, CropId, FaceId, HeadState, ImageHash, JobId, JobKind, JobState};
use facewire_store_pg::{
    Actor, Claim, ClusterRun, CollectionPolicy, JobEnd, JobProgress, JobRecord, JobToken, KeptFace, Member, NewCluster,
    NewHead, Options, Store,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;

/// Of a worker that does not die.
const LEASE: Duration = Duration::from_secs(3600);

pub(crate) fn office() -> CollectionId {
    "office".parse().unwrap()
}

pub(crate) fn by() -> Actor {
    Actor::named("a test")
}

/// The binary with nothing of this machine's own.
pub(crate) fn facewire(data: &Path, servers: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facewire"));
    command.arg("--data").arg(data).args(servers).args(arguments);
    command.env_remove("FACEWIRE_CONFIG").stdin(Stdio::null());
    command
}

/// A stack of three servers, and whoever names them to each command.
pub(crate) struct Operator {
    pub(crate) stack: TestStack,
    data: TempDir,
}

impl Operator {
    pub(crate) async fn start() -> Self {
        Self { stack: TestStack::start().await.unwrap(), data: tempfile::tempdir().unwrap() }
    }

    /// With streams, schema and index.
    pub(crate) async fn migrated() -> Self {
        let operator = Self::start().await;
        succeeded(&operator.run(&["migrate"]));
        operator
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let TestStack { nats_url, postgres_url, qdrant_url, .. } = &self.stack;
        let servers = ["--nats", nats_url, "--postgres", postgres_url, "--qdrant", qdrant_url];
        facewire(self.data.path(), &servers, arguments).output().unwrap()
    }
}

#[track_caller]
pub(crate) fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
pub(crate) fn object(output: &Output) -> Value {
    serde_json::from_str(&succeeded(output)).unwrap()
}

/// A migrated store with the collection `office`.
pub(crate) async fn store(url: &str) -> Store {
    let store = Store::connect(&Options { url: Secret::new(url), ..Options::default() }).await.unwrap();
    store.migrate().await.unwrap();
    assert!(store.create_collection(&office(), &CollectionPolicy::default(), &by()).await.unwrap());
    store
}

pub(crate) async fn job(store: &Store, kind: JobKind) -> JobId {
    store.create_job(kind, &office(), &json!({ "dryRun": true }), &by()).await.unwrap().unwrap().job
}

pub(crate) async fn taken(store: &Store, job: JobId) -> JobToken {
    match store.claim_job(job, "worker", LEASE, 5).await.unwrap() {
        Claim::Taken(record) => record.token(),
        other => panic!("{other:?}"),
    }
}

async fn read(store: &Store, job: JobId) -> JobRecord {
    store.job(job).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_shown_and_cancelled() {
    let (database, data) = (testing::database().await.unwrap(), tempfile::tempdir().unwrap());
    let url = database.url();
    let ask = |arguments: &[&str]| facewire(data.path(), &["--postgres", &url, "jobs"], arguments).output().unwrap();
    let unmigrated = ask(&["list"]);
    assert!(said(&unmigrated).contains("facewire migrate"), "{unmigrated:?}");
    let store = store(&url).await;
    assert!(succeeded(&ask(&["list"])).contains("no job"));

    let [first, second] = [job(&store, JobKind::Cluster).await, job(&store, JobKind::Assign).await];
    let listed = |arguments: &[&str]| -> Vec<String> {
        let listed = object(&ask(&[&["list", "--json"], arguments].concat()));
        let jobs = listed["jobs"].as_array().unwrap();
        jobs.iter().map(|job| job["job_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed(&[]), [second.to_string(), first.to_string()], "the newest first");
    assert_eq!(listed(&["--limit", "1"]), [second.to_string()]);
    assert_eq!(listed(&["--kind", "cluster", "--state", "queued", "--collection", "office"]), [first.to_string()]);
    assert_eq!(listed(&["--collection", "lab"]), Vec::<String>::new());
    let shown = succeeded(&ask(&["show", &first.to_string()]));
    for part in [first.to_string().as_str(), "queued", "dryRun true", "a test", "office"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }

    let cancelled = object(&ask(&["cancel", &second.to_string(), "--json"]));
    assert_eq!((&cancelled["state"], &cancelled["kind"]), (&json!("cancelled"), &json!("assign")));
    let token = taken(&store, first).await;
    assert!(succeeded(&ask(&["cancel", &first.to_string()])).contains("asked to stop"));
    assert!(read(&store, first).await.cancel_requested);
    assert!(succeeded(&ask(&["list", "--state", "running"])).contains("to be cancelled"));
    assert!(store.end_job(token, &JobEnd::Failed("it broke".to_owned())).await.unwrap());
    assert_eq!(ask(&["cancel", &first.to_string()]).status.code(), Some(1), "it is over");
    assert!(said(&ask(&["show", &first.to_string()])).contains("it broke"));
    let missing = ask(&["show", &uuid::Uuid::nil().to_string()]);
    assert_eq!((missing.status.code(), said(&missing).contains("jobs list")), (Some(1), true));
    let wrong = ask(&["list", "--state", "done"]);
    assert_eq!(wrong.status.code(), Some(2));
}

/// A watching process; killed with the test if it has not ended.
struct Watching {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watching {
    fn start(data: &Path, url: &str, job: JobId) -> Self {
        let id = job.to_string();
        let mut command = facewire(data, &["--postgres", url, "jobs"], &["--json", "watch", &id]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next change.
    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// The exit status, and what it said.
    fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_each_change_and_ends_with_the_job_or_alone() {
    let (database, data) = (testing::database().await.unwrap(), tempfile::tempdir().unwrap());
    let url = database.url();
    let store = store(&url).await;
    let id = job(&store, JobKind::Cluster).await;
    let mut watching = Watching::start(data.path(), &url, id);
    assert_eq!(watching.line()["state"], "queued");
    let token = taken(&store, id).await;
    let progress = JobProgress { phase: Some("comparing".to_owned()), done: 10, total: Some(120) };
    store.renew_job(token, LEASE, &progress).await.unwrap();
    // Whether it is seen between the two changes is a matter of time.
    let line = loop {
        let line = watching.line();
        if line["phase"] != Value::Null {
            break line;
        }
    };
    assert_eq!((&line["state"], &line["done"], &line["total"]), (&json!("running"), &json!(10), &json!(120)));
    let result = json!({ "faces": 120, "clusters": 7, "dryRun": true });
    assert!(store.end_job(token, &JobEnd::Succeeded(result.clone())).await.unwrap());
    let last = watching.line();
    assert_eq!((&last["state"], &last["result"]), (&json!("succeeded"), &result));
    assert_eq!(watching.end().0, Some(0));

    // Told as people read it, once it is over.
    let watch = |id: JobId| {
        let id = id.to_string();
        facewire(data.path(), &["--postgres", &url, "jobs", "watch"], &[id.as_str()]).output().unwrap()
    };
    let over = watch(id);
    let table = succeeded(&over);
    assert!(table.contains("faces looked at") && table.contains("120"), "{table}");
    assert!(said(&over).contains("nothing was changed"), "{}", said(&over));

    let left = job(&store, JobKind::Prototypes).await;
    let mut watching = Watching::start(data.path(), &url, left);
    assert_eq!(watching.line()["state"], "queued");
    kill(Pid::from_raw(watching.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let (status, said_last) = watching.end();
    assert!(status == Some(1) && said_last.contains("goes on"), "{status:?}: {said_last}");
    assert_eq!(read(&store, left).await.state, JobState::Queued, "only the watching ended");
    store.cancel_job(left, &by()).await.unwrap();
    assert_eq!(watch(left).status.code(), Some(3), "cancelled");
}

/// A face that is kept without a person, of the configured model.
pub(crate) fn kept(number: u64, model: &str, dim: usize) -> KeptFace {
    let image_hash = ImageHash::of(&number.to_be_bytes());
    let captured_at = OffsetDateTime::UNIX_EPOCH;
    let crop = CropId::derive(&office(), &"door".parse().unwrap(), captured_at, &image_hash);
    let mut embedding = vec![0.0; dim];
    embedding[usize::try_from(number).unwrap() % dim] = 1.0;
    KeptFace {
        face: FaceId::of_crop(crop, 0),
        collection: office(),
        crop,
        face_index: 0,
        image_hash,
        asset: None,
        embedding,
        model: model.to_owned(),
        bounding_box: None,
        landmarks: None,
        quality: None,
        captured_at,
        matched: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_are_counted_indexed_and_handed_to_jobs() {
    let operator = Operator::start().await;
    let run = |arguments: &[&str]| operator.run(arguments);
    let unmigrated = run(&["faces", "ensure-collection"]);
    assert!(said(&unmigrated).contains("facewire migrate"), "{unmigrated:?}");
    let store = store(&operator.stack.postgres_url).await;

    // The index alone: streams are another command's.
    let ensured = object(&run(&["faces", "ensure-collection", "--json"]));
    assert_eq!((&ensured["created"], &ensured["empty"]), (&json!(true), &json!(true)));
    let again = object(&run(&["faces", "ensure-collection", "--json"]));
    assert_eq!((&again["created"], &again["collection"]), (&json!(false), &ensured["collection"]));
    let unprepared = run(&["faces", "cluster", "--collection", "office"]);
    assert_eq!(unprepared.status.code(), Some(1), "the streams are missing");
    succeeded(&run(&["migrate"]));

    let (model, dim) = (ensured["model"].as_str().unwrap(), usize::try_from(ensured["dim"].as_u64().unwrap()).unwrap());
    let faces: Vec<KeptFace> = (0..300).map(|number| kept(number, model, dim)).collect();
    assert!(store.keep_faces(&faces).await.unwrap().iter().all(Result::is_ok));
    let done = object(&run(&["faces", "backfill", "--json"]));
    let counts = ["pending", "indexed", "left"].map(|count| done[count].as_u64().unwrap());
    assert_eq!(counts, [300, 300, 0]);
    assert!(succeeded(&run(&["faces", "backfill"])).contains("no face waits"));
    assert!(succeeded(&run(&["faces", "find-orphans"])).contains("no difference"));
    let other = kept(300, "pack-of-another-time", dim);
    store.keep_faces(&[other]).await.unwrap()[0].as_ref().unwrap();
    assert_eq!(run(&["faces", "backfill"]).status.code(), Some(3), "another model's face stays");
    let stats = object(&run(&["faces", "stats", "--json"]));
    let office_stats = &stats["collections"]["office"];
    let counts = ["faces", "pending", "without_person", "clustered", "noise", "clusters", "persons", "exemplars"];
    assert_eq!(counts.map(|count| office_stats[count].as_u64().unwrap()), [301, 1, 301, 0, 0, 0, 0, 0]);
    assert!(succeeded(&run(&["faces", "stats", "--collection", "office"])).contains("301"));

    let line = ["faces", "cluster", "--collection", "office", "--min-cluster-size", "3", "--no-wait", "--json"];
    let started = object(&run(&line));
    assert_eq!((&started["state"], &started["params"]["minClusterSize"]), (&json!("queued"), &json!(3)));
    let id = started["job_id"].as_str().unwrap();
    assert_eq!(read(&store, id.parse().unwrap()).await.actor.name, "facewire faces");
    let elsewhere = run(&["faces", "assign", "--collection", "nowhere"]);
    assert!(elsewhere.status.code() == Some(1) && said(&elsewhere).contains("no collection nowhere"), "{elsewhere:?}");
    succeeded(&run(&["jobs", "cancel", id]));
    let retried = object(&run(&["jobs", "retry", id, "--no-wait", "--json"]));
    assert_eq!((&retried["state"], &retried["job_id"]), (&json!("queued"), &json!(id)));
    assert_eq!(run(&["jobs", "retry", id]).status.code(), Some(0), "it is queued as it was");
    taken(&store, id.parse().unwrap()).await;
    assert_eq!(run(&["jobs", "retry", id]).status.code(), Some(1), "it runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_limit_leaves_uncompared_is_no_success() {
    let operator = Operator::migrated().await;
    let store = store(&operator.stack.postgres_url).await;
    let index = object(&operator.run(&["faces", "ensure-collection", "--json"]));
    let (model, dim) = (index["model"].as_str().unwrap(), usize::try_from(index["dim"].as_u64().unwrap()).unwrap());
    let faces: Vec<KeptFace> = (0..3).map(|number| kept(number, model, dim)).collect();
    assert!(store.keep_faces(&faces).await.unwrap().iter().all(Result::is_ok));
    // None of them is on its way any more.
    let file = operator.data.path().join("facewire.toml");
    std::fs::write(&file, "[reconciler]\npending_after = \"0s\"\n").unwrap();
    let find = |arguments: &[&str]| {
        let line = ["--config", file.to_str().unwrap(), "faces", "find-orphans", "--json"];
        let output = operator.run(&[&line, arguments].concat());
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), told["cut"].clone(), told["fixed"]["missing_point"].clone())
    };
    assert_eq!(find(&["--fix", "--limit", "1"]), (Some(3), json!(true), json!(1)));
    // The limit ends nothing where it is reached with the last face.
    assert_eq!(find(&["--fix", "--limit", "2"]), (Some(0), json!(false), json!(2)));
}

/// A face that is kept without a person, at an angle in a plane.
fn at_angle(number: u64, degrees: f32, model: &str, dim: usize) -> KeptFace {
    let mut face = kept(number, model, dim);
    face.embedding.fill(0.0);
    (face.embedding[0], face.embedding[1]) = (degrees.to_radians().cos(), degrees.to_radians().sin());
    face
}

/// Two groups of faces that a clustering took for one.
async fn plant_cluster(store: &Store, model: &str, dim: usize) {
    let angle = |number: u64| f32::from(u16::try_from(number).unwrap()) + if number < 6 { 0.0 } else { 90.0 };
    let faces: Vec<KeptFace> = (0..12).map(|number| at_angle(number, angle(number), model, dim)).collect();
    assert!(store.keep_faces(&faces).await.unwrap().iter().all(Result::is_ok));
    let members = faces.iter().map(|face| Member { face: face.face, probability: 1.0, outlier: 0.0 });
    let cluster = NewCluster {
        cluster: uuid::Uuid::new_v4().into(),
        is_new: true,
        centroid: faces[5].embedding.clone(),
        members: members.collect(),
    };
    let run = ClusterRun { collection: &office(), model, clusters: &[cluster], noise: &[] };
    let token = taken(store, job(store, JobKind::Cluster).await).await;
    store.apply_counted_clusters(token, &run, &json!({}), &by()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_split_labelled_and_both_are_undone() {
    let (stack, data) = (TestStack::start().await.unwrap(), tempfile::tempdir().unwrap());
    let (nats, postgres, qdrant) = (&*stack.nats_url, &*stack.postgres_url, &*stack.qdrant_url);
    let servers = ["--nats", nats, "--postgres", postgres, "--qdrant", qdrant, "faces"];
    let run = |arguments: &[&str]| facewire(data.path(), &servers, arguments).output().unwrap();
    let json = |arguments: &[&str]| object(&run(&[arguments, &["--json"]].concat()));
    let store = store(postgres).await;
    let index = json(&["ensure-collection"]);
    succeeded(&facewire(data.path(), &servers[..6], &["migrate"]).output().unwrap());
    let dim = usize::try_from(index["dim"].as_u64().unwrap()).unwrap();
    plant_cluster(&store, index["model"].as_str().unwrap(), dim).await;

    let of_office = ["--collection", "office"];
    let listed = json(&[&["clusters"], &of_office[..]].concat());
    let cluster = &listed["clusters"][0];
    assert_eq!(
        (&listed["total"], &cluster["faces"], &cluster["name"]),
        (&json!(1), &json!(12), &json!("unknown_cluster_1"))
    );
    let id = cluster["cluster_id"].as_str().unwrap();
    assert!(succeeded(&run(&[&["clusters"], &of_office[..]].concat())).contains(id));
    assert!(succeeded(&run(&["clusters"])).contains("no cluster"), "of the collection `default`");

    let whole = json(&[&["split", id, "--min-cluster-size", "10"], &of_office[..]].concat());
    assert_eq!(whole["new_clusters"], json!([]), "{whole}");
    let preview = json(&[&["split", id, "--min-cluster-size", "4", "--dry-run"], &of_office[..]].concat());
    let parts: Vec<_> =
        preview["parts"].as_array().unwrap().iter().map(|part| part["faces"].as_u64().unwrap()).collect();
    assert_eq!(
        (parts, &preview["act_id"], &preview["new_clusters"]),
        (vec![6, 6], &Value::Null, &json!([])),
        "{preview}"
    );
    assert_eq!(json(&[&["clusters"], &of_office[..]].concat())["clusters"][0]["faces"], 12, "nothing was changed");
    let split = json(&[&["split", id, "--min-cluster-size", "4"], &of_office[..]].concat());
    let parts = split["new_clusters"].as_array().unwrap().iter().map(|part| part["faces"].as_u64().unwrap());
    assert_eq!(parts.collect::<Vec<_>>(), [6, 6], "{split}");
    let undone = json(&["undo", split["act_id"].as_str().unwrap()]);
    assert_eq!((&undone["kind"], &undone["faces"]), (&json!("split"), &json!(12)));

    let label = |more: &[&str]| run(&[&["label", id, "--json"], &of_office[..], more].concat());
    let preview = object(&label(&["--name", "Ada Lovelace", "--dry-run"]));
    assert_eq!((&preview["faces"], &preview["act_id"]), (&json!(12), &Value::Null));
    assert_eq!(label(&["--person", "nobody"]).status.code(), Some(1));
    let labelled = object(&label(&["--name", "Ada Lovelace"]));
    let told = ["faces", "created", "prototypes", "person_name"].map(|name| labelled[name].clone());
    assert_eq!(told, [json!(12), json!(true), json!(3), json!("Ada Lovelace")]);
    let again = label(&["--name", "Grace"]);
    assert!(again.status.code() == Some(1) && said(&again).contains("already"), "{again:?}");
    let stats = json(&["stats", "--collection", "office"]);
    let counts = ["persons", "labelled", "clusters", "without_person", "exemplars"];
    assert_eq!(counts.map(|count| stats["collections"]["office"][count].as_u64().unwrap()), [1, 1, 0, 0, 3]);
    assert_eq!(json(&["backfill"])["pending"], 0, "the points followed");

    let act = labelled["act_id"].as_str().unwrap();
    assert!(succeeded(&run(&["undo", act])).contains("12 faces"));
    assert_eq!(run(&["undo", act]).status.code(), Some(1), "once");
    let acts = json(&["acts", "--collection", "office"]);
    let told = |act: &Value| ["kind", "faces", "clusters", "actor", "undone_by"].map(|name| act[name].clone());
    let by = json!("facewire faces");
    let listed: Vec<_> = acts["acts"].as_array().unwrap().iter().map(told).collect();
    let (label, split) = (json!(["label", 12, 1, by, by]), json!(["split", 12, 3, by, by]));
    assert_eq!(json!(listed), json!([label, split, ["cluster", 12, 1, "a test", null]]), "{acts}");
    assert_eq!(acts["acts"][0]["act_id"], act);
    assert_eq!(json(&["acts", "--limit", "1"])["acts"].as_array().unwrap().len(), 1);
    let shown = succeeded(&run(&["acts"]));
    assert!(shown.contains(act) && shown.contains("split"), "{shown}");
    assert!(succeeded(&run(&["acts", "--collection", "lab"])).contains("no act"));
    assert_eq!(json(&["stats"])["collections"]["office"]["without_person"], 12);
    let missing = run(&["split", "clu_000000000000"]);
    assert!(missing.status.code() == Some(1) && said(&missing).contains("faces clusters"), "{missing:?}");
}

/// Keeps a refused head as the job that trained it would; its id.
async fn keep_head(store: &Store) -> String {
    let side = |dim: u32, tpir: f64| {
        let (low, high) = (tpir - 0.1, tpir + 0.1);
        let right = (tpir * 100.0).round() as u64;
        json!({ "dim": dim, "threshold": 0.5, "tpir": tpir, "low": low, "high": high, "right": right, "probes": 100, "fpir": 0.0,
            "strangersAccepted": 0, "strangeProbes": 120, "curve": [[0.5, 0.9], [0.01, tpir]] })
    };
    let verdict = json!({ "accepted": false, "targetFpir": 0.01, "people": 20, "strangers": 20, "raw": side(512, 0.6),
        "pca": side(128, 0.5), "head": side(128, 0.62), "overRaw": { "value": 0.02, "low": -0.01, "high": 0.05 },
        "overPca": { "value": 0.12, "low": 0.06, "high": 0.18 } });
    let epoch = |epoch: u32| json!({ "epoch": epoch, "loss": 0.2, "validationLoss": 0.3, "validationRate": 0.5, "improved": epoch == 1 });
    let training = json!({ "faces": 900, "trained": 60, "validated": 15, "heldOut": 40, "bestEpoch": 1,
        "history": [epoch(1), epoch(2)] });
    let (collection, nothing) = (office(), json!({}));
    let new = NewHead {
        collection: &collection,
        model: "pack-1",
        fingerprint: "0123456789abcdef",
        dim: 128,
        params: &nothing,
        training: &training,
        verdict: &verdict,
        state: HeadState::Refused,
        onnx: b"onnx",
    };
    let token = taken(store, job(store, JobKind::Train).await).await;
    store.put_head(token, &new, &by()).await.unwrap().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_listed_shown_and_written_as_a_page() {
    let (database, data) = (testing::database().await.unwrap(), tempfile::tempdir().unwrap());
    let url = database.url();
    let heads = |arguments: &[&str]| {
        facewire(data.path(), &["--postgres", &url, "faces", "heads"], arguments).output().unwrap()
    };
    let store = store(&url).await;
    assert!(succeeded(&heads(&[])).contains("no head"));
    let id = keep_head(&store).await;
    let listed = succeeded(&heads(&["--collection", "office"]));
    for part in [id.as_str(), "refused", "60.0 %", "62.0 %", "-1.0 points"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let listed = object(&heads(&["--json"]));
    assert_eq!(
        (listed["heads"].as_array().unwrap().len(), &listed["heads"][0]["training"]["bestEpoch"]),
        (1, &json!(1))
    );
    assert_eq!(listed["heads"][0]["training"].get("history"), None);
    assert_eq!(object(&heads(&["--collection", "lab", "--json"]))["heads"], json!([]));

    let page = data.path().join("head.html");
    let shown = succeeded(&heads(&[&id, "--report", page.to_str().unwrap()]));
    for part in [
        "60 to train on",
        "+2.0 points (-1.0 points to +5.0 points)",
        "refused: a head is accepted where",
        // None accepted of so few is no FPIR of 1 %.
        "< 2.500 % (0 of 120)",
        "20 strangers with 120 probes",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("Verdict: refused") && page.matches("<svg").count() == 3, "{page}");
    assert!(page.contains("unsupported (0 errors); of 120 at most 2.50 % at 95 %"), "{page}");
    let one = object(&heads(&[&id, "--json"]));
    assert_eq!((&one["head_id"], &one["state"], &one["bytes"]), (&json!(id), &json!("refused"), &json!(4)));
    assert_eq!(one["training"]["history"].as_array().unwrap().len(), 2);
    let missing = heads(&[&uuid::Uuid::nil().to_string()]);
    assert!(missing.status.code() == Some(1) && said(&missing).contains("faces heads"), "{missing:?}");
    // A folder where the page is to be: nothing is begun.
    let train = ["--postgres", url.as_str(), "faces", "train-matching", "--collection", "office", "--report"];
    let folder = facewire(data.path(), &train, &[data.path().to_str().unwrap()]).output().unwrap();
    assert!(folder.status.code() == Some(1) && said(&folder).contains("the page cannot be written"), "{folder:?}");
}
