//! `facewire people erase --queue` as an operator runs it. No worker runs: what one would do is the jobs service's to test.

use facewire_devstack::testing::TestStack;
use facewire_domain::{EraseParams, JobKind, PersonId};
use serde_json::json;

use crate::jobs::{facewire, object, office, said, store, succeeded, taken};

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_is_handed_to_a_job_that_nobody_cancels_once_it_runs() {
    let (stack, data) = (TestStack::start().await.unwrap(), tempfile::tempdir().unwrap());
    let (nats, postgres, qdrant) = (&*stack.nats_url, &*stack.postgres_url, &*stack.qdrant_url);
    let servers = ["--nats", nats, "--postgres", postgres, "--qdrant", qdrant];
    let run = |arguments: &[&str]| facewire(data.path(), &servers, arguments).output().unwrap();
    succeeded(&run(&["migrate"]));
    let store = store(postgres).await;

    let erase = ["people", "erase", "--collection", "office", "--queue"];
    let unsure = run(&[&erase[..], &["--person", "ada"][..]].concat());
    assert!(unsure.status.code() == Some(1) && said(&unsure).contains("--yes"), "{unsure:?}");
    let begun = object(&run(&[&erase[..], &["--person", "ada", "--yes", "--json"][..]].concat()));
    assert_eq!(
        (&begun["kind"], &begun["state"], &begun["actor"]),
        (&json!("erase"), &json!("queued"), &json!("facewire people"))
    );
    let person = PersonId::derive(&office(), &"ada".parse().unwrap());
    assert_eq!(begun["params"], serde_json::to_value(EraseParams::Person { person }).unwrap());
    let id = begun["job_id"].as_str().unwrap();
    assert!(succeeded(&run(&["jobs", "list", "--kind", JobKind::Erase.as_str()])).contains(id));

    taken(&store, id.parse().unwrap()).await;
    let refused = run(&["jobs", "cancel", id]);
    assert!(refused.status.code() == Some(1) && said(&refused).contains("comes to its end"), "{refused:?}");
    let queued = succeeded(&run(&[&erase[..], &["--before", "90d", "--yes"][..]].concat()));
    assert!(queued.contains("is queued"), "{queued}");
    let nowhere = run(&["people", "erase", "--collection", "nowhere", "--queue", "--asset", "album-7", "--yes"]);
    assert!(nowhere.status.code() == Some(1) && said(&nowhere).contains("no collection nowhere"), "{nowhere:?}");
}
