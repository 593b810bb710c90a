//! `facewire people assign` and `erase` as an operator runs them. No worker runs: what one would do is the jobs service's to
//! test.

use facewire_domain::{EraseParams, JobKind, PersonId, SubjectId};
use facewire_store_pg::{KeptFace, PersonCreation};
use serde_json::{Value, json};

use crate::jobs::{Operator, by, kept, object, office, said, store, succeeded, taken};

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_says_which_faces_stay_and_force_moves_them() {
    let operator = Operator::migrated().await;
    let run = |arguments: &[&str]| operator.run(arguments);
    let store = store(&operator.stack.postgres_url).await;
    let index = object(&run(&["faces", "ensure-collection", "--json"]));
    let (model, dim) = (index["model"].as_str().unwrap(), usize::try_from(index["dim"].as_u64().unwrap()).unwrap());
    let faces: Vec<KeptFace> = (0..2).map(|number| kept(number, model, dim)).collect();
    assert!(store.keep_faces(&faces).await.unwrap().iter().all(Result::is_ok));
    let ada: SubjectId = "ada".parse().unwrap();
    let person = PersonId::derive(&office(), &ada);
    let made = store.create_person(&office(), &ada, "Ada", &json!({}), &by()).await.unwrap();
    assert!(matches!(made, PersonCreation::Created(_)), "{made:?}");
    assert!(store.set_negative(faces[1].face, person, &by()).await.unwrap());

    let [free, denied] = [0, 1].map(|number: usize| faces[number].face.to_string());
    let nowhere = uuid::Uuid::nil().to_string();
    let to_ada = ["people", "assign", "--collection", "office", "--to", "ada"];
    let assign = |arguments: &[&str]| run(&[&to_ada[..], arguments].concat());
    let some = assign(&["--json", &free, &denied, &nowhere, &free]);
    let told: Value = serde_json::from_slice(&some.stdout).unwrap();
    assert_eq!(some.status.code(), Some(3), "{told}");
    assert_eq!(told, json!({ "faces": 1, "already": 0, "refused": [denied], "unknown": [nowhere] }));
    let again = object(&assign(&["--json", &free]));
    assert_eq!((&again["faces"], &again["already"]), (&json!(0), &json!(1)), "nothing is left to do");
    let stays = assign(&[&denied]);
    let told = String::from_utf8(stays.stdout).unwrap();
    assert!(stays.status.code() == Some(3) && told.contains(&denied) && told.contains("--force"), "{told}");

    assert_eq!(object(&assign(&["--json", "--force", &denied]))["faces"], 1);
    assert_eq!(store.face(faces[1].face).await.unwrap().unwrap().person, Some(person));
    let nobody = run(&["people", "assign", "--collection", "office", "--nobody", "--force", &denied]);
    assert_eq!(nobody.status.code(), Some(2), "nobody can be said not to be nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_is_erased_and_an_id_of_nobody_is_a_problem() {
    let operator = Operator::migrated().await;
    let run = |arguments: &[&str]| operator.run(arguments);
    let store = store(&operator.stack.postgres_url).await;
    let ada: SubjectId = "ada".parse().unwrap();
    let made = store.create_person(&office(), &ada, "Ada", &json!({}), &by()).await.unwrap();
    assert!(matches!(made, PersonCreation::Created(_)), "{made:?}");

    let erase = |of: &[&str]| run(&[&["people", "erase", "--yes"][..], of].concat());
    for (of, named) in [
        (["--collection", "office", "--person", "aba"], "person aba of collection office"),
        (["--collection", "nowhere", "--asset", "album-7"], "asset album-7 in collection nowhere"),
    ] {
        let nobody = erase(&of);
        assert!(nobody.status.code() == Some(3) && said(&nobody).contains(named), "{nobody:?}");
        assert!(nobody.stdout.is_empty(), "no receipt of an erasure that was none: {nobody:?}");
    }
    let receipt = object(&erase(&["--collection", "office", "--person", "ada", "--json"]));
    assert!(receipt["persons"] == 1 && receipt["erasure"].is_string(), "{receipt}");
    let again = erase(&["--collection", "office", "--person", "ada", "--json"]);
    let receipt: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert!(again.status.code() == Some(3) && receipt["persons"] == 0, "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_is_handed_to_a_job_that_nobody_cancels_once_it_runs() {
    let operator = Operator::migrated().await;
    let run = |arguments: &[&str]| operator.run(arguments);
    let store = store(&operator.stack.postgres_url).await;

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
