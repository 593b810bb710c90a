//! `facewire reembed` where a switch was interrupted, or Postgres was restored from before one: the stores are as these leave them, and
//! the command brings the index to the gallery's model. And before a switch: whether anything would judge with the new pack. That a
//! gallery goes to another pack is tested with the chain.

use std::process::Output;

use facewire_domain::FaceId;
use facewire_inference::{PackManifest, builtin_manifest};
use facewire_store_pg::KeptFace;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::jobs::{Operator, object, said, store, succeeded};
use crate::use_head::{Dies, FACES, enrol, index, keep_faces, models, switch};

/// Packs that nobody opens: what they say of themselves, and none of their files.
struct Packs(TempDir);

impl Packs {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The default pack under another name, and so with another fingerprint.
    fn install(&self, name: &str, calibrated: bool) -> PackManifest {
        let mut pack = PackManifest { name: name.to_owned(), ..builtin_manifest("default").unwrap() };
        pack.calibration = pack.calibration.filter(|_| calibrated);
        let directory = self.0.path().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("pack.toml"), pack.to_toml().unwrap()).unwrap();
        pack
    }

    /// A command with this pack configured, and what else the file says.
    fn run(&self, operator: &Operator, pack: &str, rest: &str, arguments: &[&str]) -> Output {
        let (directory, file) = (self.0.path(), self.0.path().join("facewire.toml"));
        // Named, so that none is fetched; and never loaded.
        let library = directory.join("no-library.so");
        let models = format!("[models]\npack = {pack:?}\ndirectory = {directory:?}\nonnxruntime = {library:?}\n");
        std::fs::write(&file, models + rest).unwrap();
        operator.run(&[&["--config", file.to_str().unwrap()], arguments].concat())
    }
}

#[track_caller]
fn refused(output: &Output, said_so: &str) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(output).contains(said_so), "{output:?}");
}

/// Every face has its point in the index, which is of that model.
async fn indexed(operator: &Operator, pack: &PackManifest, faces: &[KeptFace]) {
    let (vectors, ids) = (index(operator), faces.iter().map(|face| face.face).collect::<Vec<FaceId>>());
    vectors.ensure(&pack.fingerprint(), u32::try_from(pack.dim()).unwrap()).await.unwrap();
    assert_eq!(vectors.retrieve(&ids, false).await.unwrap().len(), faces.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_stopped_between_the_stores_is_finished_by_the_same_command() {
    let (operator, packs) = (Operator::migrated().await, Packs::new());
    let store = store(&operator.stack.postgres_url).await;
    let (before, after) = (builtin_manifest("default").unwrap(), packs.install("another", true));
    let (from, to, dim) = (before.fingerprint(), after.fingerprint(), u32::try_from(before.dim()).unwrap());
    let faces = keep_faces(&store, &from, dim).await;
    switch(&store, &index(&operator), &faces, [&from, &to], dim, Dies::Between).await;
    assert_eq!(models(&store).await, [from.as_str()]);

    // Whichever side is configured, the refusal says what helps.
    let run = |pack: &str, arguments: &[&str]| packs.run(&operator, pack, "", arguments);
    refused(&run("another", &["migrate"]), "facewire reembed --to");
    refused(&run("another", &["rebuild"]), "facewire reembed --to");
    refused(&run("default", &["rebuild"]), "finished by the same command again");
    let again = ["reembed", "--to", "another", "--batch", "2", "--json"];
    let finished = object(&run("default", &again));
    assert_eq!((&finished["embedded"], &finished["indexed"]), (&json!(FACES), &json!(FACES)), "{finished}");
    assert_eq!(models(&store).await, [to.as_str()]);
    indexed(&operator, &after, &faces).await;
    refused(&run("default", &again), "already");
    refused(&run("another", &again), "already");
    succeeded(&run("another", &["migrate"]));
    succeeded(&run("another", &["rebuild"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_ahead_of_a_restored_gallery_follows_it() {
    let (operator, packs) = (Operator::migrated().await, Packs::new());
    let store = store(&operator.stack.postgres_url).await;
    let (restored, later) = (builtin_manifest("default").unwrap(), packs.install("another", true));
    let (model, dim) = (restored.fingerprint(), u32::try_from(restored.dim()).unwrap());
    let faces = keep_faces(&store, &model, dim).await;
    let vectors = index(&operator);
    let ahead = vectors.successor(&later.fingerprint(), dim).await.unwrap();
    vectors.switch_alias(&ahead).await.unwrap();

    let run = |pack: &str, arguments: &[&str]| packs.run(&operator, pack, "", arguments);
    refused(&run("another", &["rebuild"]), &format!("the gallery is of the model {model}"));
    refused(&run("another", &["reembed", "--to", "another"]), &format!("the gallery is of the model {model}"));
    refused(&run("default", &["rebuild"]), "facewire reembed --to");
    let followed = object(&run("default", &["reembed", "--to", "default", "--json"]));
    assert_eq!((&followed["embedded"], &followed["indexed"]), (&json!(0), &json!(FACES)), "{followed}");
    assert_ne!(followed["collection"], Value::Null);
    assert_eq!(models(&store).await, [model.as_str()]);
    indexed(&operator, &restored, &faces).await;
    succeeded(&run("default", &["rebuild", "--allow-mass-removal"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_nothing_could_judge_with_is_refused_and_a_fixed_threshold_told() {
    let (operator, packs) = (Operator::migrated().await, Packs::new());
    let store = store(&operator.stack.postgres_url).await;
    let pack = builtin_manifest("default").unwrap();
    packs.install("bare", false);
    packs.install("another", true);
    store.claim_serving(&pack.fingerprint(), u32::try_from(pack.dim()).unwrap()).await.unwrap();
    enrol(&store, &pack.fingerprint(), pack.dim()).await;
    let images = tempfile::tempdir().unwrap();
    let run = |to: &str, matching: &str| {
        let rest = format!("[images]\nurl = {:?}\n[match]\n{matching}\n", images.path());
        packs.run(&operator, "default", &rest, &["reembed", "--to", to])
    };
    let bare = run("bare", "");
    refused(&bare, "nothing says what a match needs with the pack bare in office");
    assert!(said(&bare).contains("Nothing was switched"), "{bare:?}");
    // Past that: it ends where the pack's files are not there.
    let told = "the threshold in office";
    for (to, matching, fixed) in
        [("bare", "threshold = 0.42", true), ("another", "threshold = 0.42", true), ("another", "", false)]
    {
        let output = run(to, matching);
        refused(&output, &format!("the pack {to} cannot be used"));
        assert_eq!(said(&output).contains(told), fixed, "{output:?}");
    }
    assert_eq!(store.serving_model().await.unwrap().unwrap().model, pack.fingerprint());
}
