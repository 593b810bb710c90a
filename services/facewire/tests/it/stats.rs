//! `facewire stats` on a system that is quiet (nobody published for so long that no crop is kept), and on one that cannot be asked.

use facewire_devstack::testing::TestStack;
use facewire_store_pg::KeptFace;
use serde_json::json;

use crate::jobs::{Operator, facewire, kept, object, said, store, succeeded};

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_system_has_its_galleries() {
    let operator = Operator::migrated().await;
    let run = |arguments: &[&str]| operator.run(arguments);
    let store = store(&operator.stack.postgres_url).await;
    let faces: Vec<KeptFace> = (0..2).map(|number| kept(number, "pack@1:0", 4)).collect();
    assert!(store.keep_faces(&faces).await.unwrap().iter().all(Result::is_ok));

    let told = object(&run(&["stats", "--json"]));
    assert_eq!((&told["ledger"]["admitted"], &told["gallery"]["office"]["faces"]), (&json!(0), &json!(2)), "{told}");
    let said = succeeded(&run(&["stats"]));
    assert!(said.contains("no crop is kept") && said.contains("office"), "{said}");
    let lab = object(&run(&["stats", "--collection", "lab", "--json"]));
    assert_eq!(lab["gallery"], json!({ "lab": lab["gallery"]["lab"] }), "only what was asked about");
}

/// Both answer: to ask whether Facewire runs would lead nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_not_migrated_or_refuse_a_login_are_not_told_as_away() {
    let (stack, data) = (TestStack::start().await.unwrap(), tempfile::tempdir().unwrap());
    let (nats, postgres, qdrant) = (&*stack.nats_url, &*stack.postgres_url, &*stack.qdrant_url);
    let wrong = format!("postgres://nobody:wrong@{}", postgres.split_once('@').unwrap().1);
    let run = |postgres: &str, arguments: &[&str]| {
        let servers = ["--nats", nats, "--postgres", postgres, "--qdrant", qdrant];
        facewire(data.path(), &servers, arguments).output().unwrap()
    };
    let empty = run(postgres, &["stats"]);
    assert_eq!(empty.status.code(), Some(1), "{empty:?}");
    assert_eq!(said(&empty).matches("`facewire migrate`").count(), 2, "each of the two: {empty:?}");
    succeeded(&run(postgres, &["migrate"]));
    let refused = run(&wrong, &["stats"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(said(&refused).contains("the user or password is not accepted"), "{refused:?}");
    for told in [empty, refused] {
        assert!(!said(&told).contains("Is Facewire running?"), "{told:?}");
    }
}
