//! Every bulk change undone: what is still as it was made goes back, and nothing else.

use std::time::Duration;

use facewire_domain::{FaceId, JobKind};
use facewire_store_pg::{
    FaceSelection, LabelOutcome, LabelTarget, Labelled, Member, NewAssignment, Store, StoreError, Undone, VectorState,
};
use serde_json::json;
use sqlx::Executor;
use uuid::Uuid;

use crate::clusters::{
    MODEL, apply, cluster, clusters, end, found, give, id, members, number, owner, public, running, sorted, told,
    unknown,
};
use crate::erasing::erase_faces;
use crate::support::{by, enrolled, face, office, person, test_database};

async fn undo(store: &Store, act: Uuid) -> Undone {
    store.undo_act(act, &by()).await.unwrap().unwrap()
}

async fn label(store: &Store, cluster: u32, name: &str) -> Labelled {
    let target = LabelTarget::Name(name);
    match store.label_cluster(&office(), &public(cluster), target, 3, false, &by()).await.unwrap() {
        LabelOutcome::Done(labelled) => labelled,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_undone_clustering_leaves_the_clusters_of_before() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 12).await;
    cluster(&store, &[found(1, true, &faces[..5]), found(2, true, &faces[5..8])], &[]).await;
    let before = clusters(&store, &faces).await;
    let continued = [&faces[..4], &faces[10..11]].concat();
    let token = running(&store, JobKind::Cluster).await;
    let changes = [found(1, false, &continued), found(3, true, &faces[5..8])];
    let second = apply(&store, token, &changes, &faces[4..5]).await.unwrap();
    store.mark_indexed(&faces).await.unwrap();

    let record = store.act(second.act).await.unwrap().unwrap();
    assert_eq!((record.kind.as_str(), record.job, record.faces), ("cluster", Some(token.job), 5));
    assert_eq!(record.detail, json!({ "created": 1, "kept": 1, "dissolved": 1, "moved": 5 }));
    assert_eq!((record.collection, record.actor.name.as_str(), record.undone_at), (office(), "a test", None));
    let undone = undo(&store, second.act).await;
    assert_eq!((undone.kind.as_str(), undone.collection, undone.faces), ("cluster", office(), second.faces));
    assert_eq!(clusters(&store, &faces).await, before);
    let states = store.faces(&faces).await.unwrap();
    assert_eq!(states.iter().filter(|face| face.record.state == VectorState::Pending).count(), 5);
    assert!(store.open_clusters(&office(), MODEL).await.unwrap().is_empty(), "their means are not known");

    let record = store.act(second.act).await.unwrap().unwrap();
    assert_eq!((record.undone_at.is_some(), record.undone_by.as_deref()), (true, Some("a test")));
    assert_eq!(store.undo_act(second.act, &by()).await.unwrap(), None, "it is undone");
    assert_eq!(store.undo_act(Uuid::from_u128(7), &by()).await.unwrap(), None);
    assert_eq!((told(&store, "act.undone").await, told(&store, "face.assigned").await), (1, 0));
    // The job may do its work again, if somebody wants it.
    let again = apply(&store, token, &[found(4, true, &faces[5..8])], &[]).await.unwrap();
    assert_ne!(again.act, second.act);
    db.drop().await;
}

#[tokio::test]
async fn what_changed_since_a_clustering_stays_as_it_is() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 10).await;
    enrolled(&store, &[face("a", None, 90)]).await;
    let first = cluster(&store, &[found(1, true, &faces[..4]), found(2, true, &faces[4..7])], &[]).await;
    // One is somebody's, one is in another cluster, one is gone; and others joined.
    give(&store, faces[0], "a").await;
    let second = cluster(&store, &[found(3, true, &faces[1..2])], &[]).await;
    store.remove_face(faces[2], &by()).await.unwrap().unwrap();
    let token = running(&store, JobKind::Assign).await;
    store.apply_assignments(token, &office(), &[], &[(faces[8], id(2))], &by()).await.unwrap().unwrap();
    let anna = label(&store, 3, "Anna").await;

    let undone = undo(&store, first.act).await;
    assert_eq!(undone.faces, sorted(&[&faces[3..4], &faces[4..7]].concat()));
    assert_eq!(owner(&store, faces[0]).await, Some(person("a")));
    assert_eq!(owner(&store, faces[1]).await, Some(anna.person));
    assert_eq!(clusters(&store, &faces).await, [(public(2), vec![8])], "who joined since is left in it");
    assert_eq!(store.cluster(&office(), &public(1)).await.unwrap(), None);
    // The act before is undone: its cluster is no place to go back to.
    assert_eq!(undo(&store, anna.act).await.faces, faces[1..2]);
    assert_eq!(undo(&store, second.act).await.faces, faces[1..2]);
    let record = store.face(faces[1]).await.unwrap().unwrap();
    assert_eq!((record.person, record.cluster_id), (None, None));
    db.drop().await;
}

#[tokio::test]
async fn an_undone_label_leaves_an_open_cluster_and_the_person() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 8).await;
    cluster(&store, &[found(1, true, &faces[..5]), found(2, true, &faces[5..])], &[]).await;
    let before = clusters(&store, &faces).await;
    let anna = label(&store, 1, "Anna").await;
    store.mark_indexed(&faces).await.unwrap();
    enrolled(&store, &[face("a", None, 90)]).await;
    give(&store, faces[2], "a").await;

    let undone = undo(&store, anna.act).await;
    let back = [&faces[..2], &faces[3..5]].concat();
    assert_eq!((undone.kind.as_str(), undone.faces), ("label", sorted(&back)));
    assert_eq!(clusters(&store, &faces).await, [(public(1), vec![0, 1, 3, 4]), before[1].clone()]);
    assert_eq!(owner(&store, faces[2]).await, Some(person("a")), "somebody gave it away since");
    let record = store.face(faces[4]).await.unwrap().unwrap();
    assert_eq!((record.person, record.is_prototype, record.state), (None, false, VectorState::Pending));
    let members = store.cluster_faces(id(1), None, 10).await.unwrap();
    assert_eq!(members[0].outlier, Some(0.04), "as it was judged");
    let person = store.person(anna.person).await.unwrap().unwrap();
    assert_eq!((person.faces, person.prototypes), (0, 0));
    assert_eq!(number(&db, "faces WHERE person_id IS NULL AND confirmed").await, 0);
    // Given with the label, given by hand, taken back by undoing it.
    assert_eq!((told(&store, "face.assigned").await, told(&store, "act.undone").await), (5 + 1 + 4, 1));
    // The name is free for the cluster, and leads to the same person.
    assert_eq!(label(&store, 1, "ANNA").await.person, anna.person);
    db.drop().await;
}

#[tokio::test]
async fn what_a_label_refused_comes_back_into_its_cluster() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 5).await;
    enrolled(&store, &[face("a", Some("Anna"), 90)]).await;
    cluster(&store, &[found(1, true, &faces)], &[]).await;
    assert!(store.set_negative(faces[1], person("a"), &by()).await.unwrap());
    let anna = label(&store, 1, "anna").await;
    assert_eq!(anna.refused, faces[1..2]);
    assert_eq!(undo(&store, anna.act).await.faces, sorted(&faces));
    assert_eq!(clusters(&store, &faces).await, [(public(1), vec![0, 1, 2, 3, 4])]);

    // Whoever was merged took the faces along: they are no longer as the label made them.
    let anna = label(&store, 1, "anna").await;
    enrolled(&store, &[face("b", None, 91)]).await;
    store.merge_persons(person("a"), person("b"), &by()).await.unwrap().unwrap();
    let undone = undo(&store, anna.act).await;
    assert_eq!(undone.faces, faces[1..2]);
    let shown = store.cluster(&office(), &public(1)).await.unwrap().unwrap();
    assert_eq!(shown.person, Some(person("b")));
    db.drop().await;
}

#[tokio::test]
async fn what_a_label_refused_stays_out_of_a_cluster_that_went_with_its_person() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 5).await;
    enrolled(&store, &[face("a", Some("Anna"), 90)]).await;
    cluster(&store, &[found(1, true, &faces)], &[]).await;
    assert!(store.set_negative(faces[1], person("a"), &by()).await.unwrap());
    let anna = label(&store, 1, "anna").await;
    assert_eq!(anna.refused, faces[1..2]);
    let what = FaceSelection::Person(person("a"));
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    assert_eq!(erase_faces(&store, &what).await, 5, "those of the label, and the enrolled one");
    assert_eq!(store.delete_persons(&begun.persons).await.unwrap(), 1);
    assert!(store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
    assert_eq!(undo(&store, anna.act).await.faces, faces[1..2]);
    assert_eq!(number(&db, "clusters WHERE dissolved_at IS NULL").await, 0);
    assert_eq!(number(&db, "faces WHERE cluster_id IS NOT NULL").await, 0);
    db.drop().await;
}

#[tokio::test]
async fn an_undone_assignment_spares_what_a_human_confirmed() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 8).await;
    enrolled(&store, &[face("a", None, 90), face("b", None, 91)]).await;
    cluster(&store, &[found(1, true, &faces[..2]), found(2, true, &faces[2..4])], &[]).await;
    let token = running(&store, JobKind::Assign).await;
    let to = |place: usize| NewAssignment { face: faces[place], person: person("a"), similarity: 0.75 };
    let theirs = [to(0), to(2), to(4), to(5), to(6)];
    let changes =
        store.apply_assignments(token, &office(), &theirs, &[(faces[7], id(1))], &by()).await.unwrap().unwrap();
    end(&store, token).await;
    assert_eq!(changes.assigned.len(), 5);
    give(&store, faces[4], "a").await;
    give(&store, faces[5], "b").await;
    label(&store, 2, "Carla").await;
    store.mark_indexed(&faces).await.unwrap();

    let undone = undo(&store, changes.act).await;
    assert_eq!((undone.kind.as_str(), undone.faces), ("assign", sorted(&[faces[0], faces[2], faces[6], faces[7]])));
    assert_eq!(owner(&store, faces[4]).await, Some(person("a")), "a human said so too");
    assert_eq!(owner(&store, faces[5]).await, Some(person("b")));
    assert_eq!(clusters(&store, &faces).await, [(public(1), vec![0, 1])]);
    let record = store.face(faces[2]).await.unwrap().unwrap();
    assert_eq!((record.person, record.cluster_id), (None, None), "its cluster is Carla's by now");
    db.drop().await;
}

#[tokio::test]
async fn an_undone_split_is_one_cluster_again() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 9).await;
    cluster(&store, &[found(1, true, &faces)], &[]).await;
    let before = clusters(&store, &faces).await;
    let split = async |parts: [&[FaceId]; 2], rest: &[FaceId]| {
        let parts: Vec<Vec<Member>> = parts.iter().map(|part| members(part)).collect();
        store.split_cluster(&office(), &public(1), &parts, &members(rest), &by()).await.unwrap().unwrap()
    };
    let whole = split([&faces[..4], &faces[4..8]], &faces[8..]).await;
    assert_eq!(store.cluster(&office(), &public(1)).await.unwrap(), None);
    let undone = undo(&store, whole.act).await;
    assert_eq!((undone.kind.as_str(), undone.faces), ("split", sorted(&faces)));
    assert_eq!(clusters(&store, &faces).await, before);
    assert_eq!(number(&db, "clusters WHERE dissolved_at IS NULL").await, 1);

    // In part: one of the new clusters was labelled since.
    let parts = split([&faces[..4], &faces[4..6]], &faces[..0]).await;
    let target = LabelTarget::Name("Anna");
    let larger = parts.new[0].public_id.clone();
    store.label_cluster(&office(), &larger, target, 3, false, &by()).await.unwrap();
    let undone = undo(&store, parts.act).await;
    assert_eq!(undone.faces, sorted(&faces[4..6]));
    assert_eq!(clusters(&store, &faces).await, [(public(1), vec![4, 5, 6, 7, 8])]);
    let (all, total) = store.clusters_page(&office(), true, 1, 10).await.unwrap();
    assert_eq!((total, all[1].public_id.clone(), all[1].name.as_str()), (2, larger, "Anna"));
    db.drop().await;
}

#[tokio::test]
async fn acts_are_listed_the_newest_first() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 9).await;
    let made = cluster(&store, &[found(1, true, &faces[..4]), found(2, true, &faces[4..8])], &[]).await;
    let anna = label(&store, 1, "Anna").await;
    undo(&store, anna.act).await;
    let parts = [members(&faces[4..6]), members(&faces[6..8])];
    let split = store.split_cluster(&office(), &public(2), &parts, &[], &by()).await.unwrap().unwrap();

    let all = store.acts(None, None, 10).await.unwrap();
    let listed: Vec<_> = all.iter().map(|act| (act.act, act.kind.as_str(), act.faces, act.clusters)).collect();
    // The split made two clusters and dissolved theirs.
    assert_eq!(listed, [(split.act, "split", 4, 3), (anna.act, "label", 4, 1), (made.act, "cluster", 8, 2)]);
    let undone: Vec<_> = all.iter().map(|act| (act.undone_at.is_some(), act.undone_by.as_deref())).collect();
    assert_eq!(undone, [(false, None), (true, Some("a test")), (false, None)]);
    assert_eq!(all.iter().map(|act| act.job.is_some()).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!((all[0].actor.key, all[0].actor.name.as_str()), (by().key, "a test"));
    assert_eq!(store.act(split.act).await.unwrap().as_ref(), Some(&all[0]));

    let of_office = [office()];
    let first = store.acts(Some(&of_office), None, 2).await.unwrap();
    assert_eq!(first, all[..2]);
    let after = Some((first[1].at, first[1].act));
    assert_eq!(store.acts(Some(&of_office), after, 2).await.unwrap(), all[2..]);
    let last = Some((all[2].at, all[2].act));
    assert_eq!(store.acts(Some(&of_office), last, 2).await.unwrap(), []);
    assert_eq!(store.acts(Some(&["lab".parse().unwrap()]), None, 10).await.unwrap(), []);
    assert_eq!(store.acts(Some(&[]), None, 10).await.unwrap(), []);

    // A face that is erased was changed all the same.
    store.remove_face(faces[4], &by()).await.unwrap().unwrap();
    assert_eq!(store.acts(None, None, 1).await.unwrap(), all[..1]);
    db.drop().await;
}

#[tokio::test]
async fn old_acts_go_in_steps_and_are_undone_no_more() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 8).await;
    let old = cluster(&store, &[found(1, true, &faces[..4]), found(2, true, &faces[4..])], &[]).await;
    let older = cluster(&store, &[found(3, true, &faces[..4])], &[]).await;
    assert_eq!(store.prune_acts(DAY, 100).await.unwrap(), 0, "they are of today");
    let mut operator = db.operator().await;
    operator.execute("UPDATE acts SET at = at - interval '2 days'").await.unwrap();
    operator.execute("UPDATE clusters SET dissolved_at = dissolved_at - interval '2 days'").await.unwrap();
    let new = cluster(&store, &[found(4, true, &faces[4..])], &[]).await;
    let mut rows = 0;
    loop {
        match store.prune_acts(DAY, 3).await.unwrap() {
            0 => break,
            step => {
                assert!(step <= 9, "{step}");
                rows += step;
            }
        }
    }
    assert_eq!(rows, 12 + 2 + 1, "faces, acts, and a cluster that nothing can restore");
    for act in [old.act, older.act] {
        assert_eq!((store.act(act).await.unwrap(), store.undo_act(act, &by()).await.unwrap()), (None, None));
    }
    let left: Vec<Uuid> = store.acts(None, None, 10).await.unwrap().iter().map(|act| act.act).collect();
    assert_eq!(left, [new.act]);
    let undone = undo(&store, new.act).await;
    assert_eq!(undone.faces, sorted(&faces[4..]));
    assert_eq!(clusters(&store, &faces).await, [(public(2), vec![4, 5, 6, 7]), (public(3), vec![0, 1, 2, 3])]);
    db.drop().await;
}

#[tokio::test]
async fn a_centroid_that_is_no_direction_fails_the_whole_run() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 4).await;
    let token = running(&store, JobKind::Cluster).await;
    let mut bad = found(2, true, &faces[2..]);
    bad.centroid[1] = f32::NAN;
    let clusters_found = [found(1, true, &faces[..2]), bad];
    let run =
        facewire_store_pg::ClusterRun { collection: &office(), model: MODEL, clusters: &clusters_found, noise: &[] };
    let refused = store.apply_counted_clusters(token, &run, &json!({}), &by()).await;
    assert!(matches!(refused, Err(StoreError::Invalid { index: 1, .. })), "{refused:?}");
    assert!(!format!("{run:?}").contains("0.5"), "a mean in a log");
    assert_eq!(number(&db, "clusters").await, 0);
    db.drop().await;
}

#[tokio::test]
async fn an_act_on_faces_of_somebody_who_is_being_erased_stays_as_it_is() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 8).await;
    cluster(&store, &[found(1, true, &faces[..4]), found(2, true, &faces[4..])], &[]).await;
    let (anna, bert) = (label(&store, 1, "Anna").await, label(&store, 2, "Bert").await);
    store.begin_erasure(&FaceSelection::Person(anna.person), &by()).await.unwrap().unwrap();
    assert_eq!(store.undo_act(anna.act, &by()).await, Err(StoreError::BeingErased));
    assert_eq!(owner(&store, faces[0]).await, Some(anna.person));
    assert_eq!(undo(&store, bert.act).await.faces, sorted(&faces[4..]), "nobody erases him");
    db.drop().await;
}
