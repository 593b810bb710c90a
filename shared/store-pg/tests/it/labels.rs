//! Clusters named and split by hand, and what erasing leaves of them.

use facewire_domain::{FaceId, PersonId};
use facewire_store_pg::{
    FaceSelection, LabelOutcome, LabelTarget, Labelled, PersonStatus, SplitClusters, Store, StoreError, VectorState,
};
use serde_json::json;
use uuid::Uuid;

use crate::clusters::{MODEL, cluster, clusters, found, id, members, number, owner, public, sorted, told, unknown};
use crate::erasing::erase_faces;
use crate::support::{by, enrolled, face, head, office, person, test_database};

async fn label(store: &Store, cluster: u32, target: LabelTarget<'_>, dry_run: bool) -> LabelOutcome {
    store.label_cluster(&office(), &public(cluster), target, 3, dry_run, &by()).await.unwrap()
}

async fn labelled(store: &Store, cluster: u32, target: LabelTarget<'_>) -> Labelled {
    match label(store, cluster, target, false).await {
        LabelOutcome::Done(labelled) => labelled,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_label_gives_a_clusters_faces_to_whoever_has_the_name() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 12).await;
    let made = [found(1, true, &faces[..5]), found(2, true, &faces[5..8]), found(3, true, &faces[8..])];
    cluster(&store, &made, &[]).await;
    store.mark_indexed(&faces).await.unwrap();

    // A preview tells everything and writes nothing.
    let LabelOutcome::Done(preview) = label(&store, 1, LabelTarget::Name(" Anna\u{7}"), true).await else { panic!() };
    let best = vec![faces[4], faces[3], faces[2]];
    assert_eq!((preview.act, preview.person, preview.created), (Uuid::nil(), PersonId::from(Uuid::nil()), true));
    assert_eq!((preview.person_name.as_str(), &preview.prototypes), ("Anna", &best));
    assert_eq!((sorted(&preview.faces), preview.refused), (sorted(&faces[..5]), vec![]));
    assert_eq!((number(&db, "persons").await, number(&db, "acts WHERE kind = 'label'").await), (0, 0));
    assert_eq!((owner(&store, faces[0]).await, told(&store, "cluster.labelled").await), (None, 0));

    let anna = labelled(&store, 1, LabelTarget::Name("Anna")).await;
    assert_eq!((anna.created, anna.person_name.as_str(), &anna.prototypes), (true, "Anna", &best));
    assert_eq!(sorted(&anna.faces), sorted(&faces[..5]));
    let row = store.person(anna.person).await.unwrap().unwrap();
    assert_eq!((row.faces, row.prototypes, row.person.status), (5, 3, PersonStatus::Active));
    let external = row.person.external_id.as_str().strip_prefix("person_").unwrap();
    assert!(external.parse::<Uuid>().is_ok(), "{external}");
    let record = store.face(faces[4]).await.unwrap().unwrap();
    assert_eq!((record.person, record.cluster_id), (Some(anna.person), Some(id(1).as_uuid())));
    assert_eq!((record.state, record.is_prototype), (VectorState::Pending, true));
    assert_eq!(record.assigned_by.as_deref(), Some("a test"));
    assert_eq!(number(&db, "faces WHERE confirmed").await, 5);
    let members = store.cluster_faces(id(1), None, 10).await.unwrap();
    assert_eq!((members.len(), members[0].outlier), (5, Some(0.04)), "as they were judged");

    // It is called as the person, and only shown to who wants to see such clusters.
    assert_eq!(label(&store, 1, LabelTarget::Name("Bert"), false).await, LabelOutcome::AlreadyLabelled(anna.person));
    assert_eq!(store.clusters_page(&office(), false, 1, 10).await.unwrap().1, 2);
    let (all, total) = store.clusters_page(&office(), true, 1, 10).await.unwrap();
    assert_eq!((total, all[0].name.as_str(), all[0].person), (3, "Anna", Some(anna.person)));
    assert!(store.open_clusters(&office(), MODEL).await.unwrap().iter().all(|(cluster, _)| *cluster != id(1)));

    // The same person under the name in another case, and by id; also after a merge.
    let second = labelled(&store, 2, LabelTarget::Name("ANNA")).await;
    assert_eq!((second.created, second.person, second.person_name.as_str()), (false, anna.person, "Anna"));
    enrolled(&store, &[face("b", Some("Berta"), 90)]).await;
    store.merge_persons(anna.person, person("b"), &by()).await.unwrap().unwrap();
    let third = labelled(&store, 3, LabelTarget::Person(anna.person)).await;
    assert_eq!((third.person, third.person_name.as_str()), (person("b"), "Berta"));
    let shown = store.cluster(&office(), &public(1)).await.unwrap().unwrap();
    assert_eq!((shown.name.as_str(), shown.person), ("Berta", Some(person("b"))));
    assert_eq!(label(&store, 1, LabelTarget::Name("x"), false).await, LabelOutcome::AlreadyLabelled(person("b")));
    assert_eq!((told(&store, "cluster.labelled").await, told(&store, "face.assigned").await), (3, 12));
    db.drop().await;
}

#[tokio::test]
async fn what_cannot_be_labelled_is_told() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 6).await;
    enrolled(&store, &[face("a", None, 90)]).await;
    cluster(&store, &[found(1, true, &faces[..4]), found(2, true, &faces[4..])], &[]).await;
    assert_eq!(label(&store, 9, LabelTarget::Name("Anna"), false).await, LabelOutcome::NoCluster);
    let nobody = LabelTarget::Person(person("nobody"));
    assert_eq!(label(&store, 1, nobody, false).await, LabelOutcome::NoPerson);
    let nameless = store.label_cluster(&office(), &public(1), LabelTarget::Name("\u{7} "), 3, false, &by()).await;
    assert!(matches!(nameless, Err(StoreError::Invalid { .. })));
    let elsewhere = "lab".parse().unwrap();
    let other = store.label_cluster(&elsewhere, &public(1), LabelTarget::Name("Anna"), 3, false, &by()).await;
    assert_eq!(other.unwrap(), LabelOutcome::NoCluster);

    // Somebody said that two of the faces are not that person's: they are nobody's, and in no cluster.
    for place in [1, 3] {
        assert!(store.set_negative(faces[place], person("a"), &by()).await.unwrap());
    }
    let done = labelled(&store, 1, LabelTarget::Person(person("a"))).await;
    assert_eq!(
        (sorted(&done.faces), sorted(&done.refused)),
        (sorted(&[faces[0], faces[2]]), sorted(&[faces[1], faces[3]]))
    );
    assert_eq!(done.prototypes, [faces[2], faces[0]]);
    let refused = store.face(faces[3]).await.unwrap().unwrap();
    assert_eq!((refused.person, refused.cluster_id), (None, None));
    // All of them: nothing is done.
    for place in [4, 5] {
        assert!(store.set_negative(faces[place], person("a"), &by()).await.unwrap());
    }
    let none = labelled(&store, 2, LabelTarget::Person(person("a"))).await;
    assert_eq!((none.act, none.faces, none.refused.len()), (Uuid::nil(), vec![], 2));
    assert_eq!(clusters(&store, &faces).await, [(public(2), vec![4, 5])]);
    db.drop().await;
}

#[tokio::test]
async fn no_cluster_is_given_to_whom_an_unfinished_erasure_concerns() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 4).await;
    enrolled(&store, &[face("a", Some("Anna"), 90), face("b", Some("Berta"), 91)]).await;
    cluster(&store, &[found(1, true, &faces)], &[]).await;
    store.merge_persons(person("b"), person("a"), &by()).await.unwrap().unwrap();
    let what = FaceSelection::Person(person("a"));
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    let anna = LabelTarget::Person(person("a"));
    for target in [anna, LabelTarget::Person(person("b")), LabelTarget::Name("ANNA")] {
        for dry_run in [true, false] {
            let refused = store.label_cluster(&office(), &public(1), target, 3, dry_run, &by()).await;
            assert_eq!(refused, Err(StoreError::BeingErased), "{target:?}");
        }
    }
    let gone = store.tombstone_selected(&what, 10).await.unwrap();
    store.forget(&gone.iter().map(|face| face.face).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.delete_persons(&begun.persons).await.unwrap(), 2);
    let refused = store.label_cluster(&office(), &public(1), anna, 3, false, &by()).await;
    assert_eq!(refused, Err(StoreError::BeingErased), "the receipt is not final");
    assert!(store.finish_erasure(&begun, &what, &json!({}), &by()).await.unwrap());
    assert_eq!(label(&store, 1, anna, false).await, LabelOutcome::NoPerson);
    assert_eq!(clusters(&store, &faces).await, [(public(1), vec![0, 1, 2, 3])]);
    db.drop().await;
}

async fn split(store: &Store, cluster: &str, parts: &[&[FaceId]], rest: &[FaceId]) -> Option<SplitClusters> {
    let parts: Vec<_> = parts.iter().map(|part| members(part)).collect();
    store.split_cluster(&office(), cluster, &parts, &members(rest), &by()).await.unwrap()
}

/// The clusters that a split made, with how large they are.
fn names(split: &SplitClusters) -> Vec<(String, u64)> {
    split.new.iter().map(|cluster| (cluster.public_id.clone(), cluster.faces)).collect()
}

fn sub(cluster: &str, number: u32) -> String {
    format!("{cluster}_sub_{number}")
}

#[tokio::test]
async fn a_split_makes_clusters_that_are_called_after_the_first() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 12).await;
    cluster(&store, &[found(1, true, &faces[..10])], &faces[10..]).await;
    assert_eq!(split(&store, &public(9), &[&faces[..3]], &[]).await, None);
    assert_eq!(split(&store, &public(1), &[&faces[10..]], &[]).await, None, "no face of it");
    // A face that is not in the cluster is left out, and so is an empty part.
    let parts: [&[FaceId]; 3] = [&faces[..3], &faces[10..11], &faces[3..7]];
    let done = split(&store, &public(1), &parts, &faces[7..8]).await.unwrap();
    assert_eq!(names(&done), [(sub(&public(1), 2), 4), (sub(&public(1), 1), 3)]);
    assert_eq!((done.new[0].number, done.new[0].name.as_str()), (3, "unknown_cluster_3"));
    assert_eq!(sorted(&done.faces), sorted(&faces[..8]));
    let first = sub(&public(1), 1);
    let now = clusters(&store, &faces).await;
    assert_eq!(now, [(sub(&public(1), 2), vec![3, 4, 5, 6]), (first.clone(), vec![0, 1, 2]), (public(1), vec![8, 9])]);
    assert!(store.open_clusters(&office(), MODEL).await.unwrap().is_empty());
    assert_eq!(store.clusters_without_centroid(&office(), MODEL, None, 10).await.unwrap().len(), 3);

    // Numbers go on; a cluster that was split off is called after the one that it was in.
    let done = split(&store, &public(1), &[&faces[8..9], &faces[9..10]], &[]).await.unwrap();
    assert_eq!(sorted(&done.faces), sorted(&faces[8..10]));
    assert!(names(&done).contains(&(sub(&public(1), 4), 1)));
    assert_eq!(store.cluster(&office(), &public(1)).await.unwrap(), None, "no face is left in it");
    let anna = store.label_cluster(&office(), &first, LabelTarget::Name("Anna"), 3, false, &by()).await.unwrap();
    let LabelOutcome::Done(anna) = anna else { panic!("{anna:?}") };
    let done = split(&store, &first, &[&faces[..2]], &[]).await.unwrap();
    assert_eq!(names(&done), [(sub(&first, 1), 2)]);
    assert_eq!((done.new[0].name.as_str(), done.new[0].person), ("Anna", Some(anna.person)));
    assert_eq!(owner(&store, faces[0]).await, Some(anna.person));
    assert_eq!(told(&store, "cluster.split").await, 3);
    db.drop().await;
}

async fn erase(store: &Store, what: &FaceSelection) {
    let begun = store.begin_erasure(what, &by()).await.unwrap().unwrap();
    erase_faces(store, what).await;
    store.delete_persons(&begun.persons).await.unwrap();
    assert!(store.finish_erasure(&begun, what, &json!({}), &by()).await.unwrap());
}

#[tokio::test]
async fn no_cluster_and_no_act_holds_what_was_erased() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 9).await;
    let made = [found(1, true, &faces[..3]), found(2, true, &faces[3..6]), found(3, true, &faces[6..])];
    cluster(&store, &made, &[]).await;
    let anna = labelled(&store, 1, LabelTarget::Name("Anna")).await;
    erase(&store, &FaceSelection::Person(anna.person)).await;
    let all = "act_faces WHERE person IS NOT NULL";
    assert_eq!((number(&db, all).await, number(&db, "prototypes").await), (0, 0));
    assert_eq!(number(&db, "stale_prototypes").await, 0);
    assert_eq!(number(&db, "clusters WHERE centroid IS NOT NULL").await, 2);
    assert_eq!(store.clusters_page(&office(), true, 1, 10).await.unwrap().1, 2);

    // One face of a cluster: its mean is not known any more. All of them: the next clustering dissolves it.
    erase(&store, &FaceSelection::Image(office(), head(4).image_hash)).await;
    for number in 7..=9 {
        erase(&store, &FaceSelection::Image(office(), head(number).image_hash)).await;
    }
    assert_eq!(number(&db, "clusters WHERE centroid IS NOT NULL").await, 0);
    assert_eq!(number(&db, "act_faces").await, 2);
    assert_eq!(clusters(&store, &faces).await, [(public(2), vec![4, 5])]);
    assert_eq!(cluster(&store, &[], &[]).await.dissolved, [public(3)]);

    // Whoever was merged has no faces of their own that could be erased: they go with whoever took over.
    let bert = labelled(&store, 2, LabelTarget::Name("Bert")).await;
    enrolled(&store, &[face("c", None, 90)]).await;
    store.merge_persons(bert.person, person("c"), &by()).await.unwrap().unwrap();
    let refused = store.begin_erasure(&FaceSelection::Person(bert.person), &by()).await;
    assert_eq!(refused, Err(StoreError::Merged { into: person("c") }));
    erase(&store, &FaceSelection::Person(person("c"))).await;
    assert_eq!(store.face(faces[4]).await.unwrap(), None);
    assert_eq!(store.clusters_page(&office(), true, 1, 10).await.unwrap().1, 0);
    db.drop().await;
}

#[tokio::test]
async fn clusters_and_acts_go_with_their_collection_in_steps() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 8).await;
    cluster(&store, &[found(1, true, &faces[..2]), found(2, true, &faces[2..4])], &[]).await;
    cluster(&store, &[found(3, true, &faces[4..6])], &[]).await;
    labelled(&store, 1, LabelTarget::Name("Anna")).await;
    let what = FaceSelection::Collection(office());
    let begun = store.begin_erasure(&what, &by()).await.unwrap().unwrap();
    while let Some(face) = store.tombstone_selected(&what, 1).await.unwrap().first() {
        store.forget(&[face.face]).await.unwrap();
    }
    assert_eq!(number(&db, "act_faces").await, 0);
    let mut steps = 0;
    while store.empty_collection(&office(), 1).await.unwrap() > 0 {
        steps += 1;
    }
    assert_eq!(steps, 3 + 3 + 1, "acts, clusters, a person");
    assert!(store.delete_erased_collection(&begun, &json!({}), &by()).await.unwrap());
    for table in ["acts", "act_clusters", "clusters", "stale_prototypes", "prototypes", "persons"] {
        assert_eq!(number(&db, table).await, 0, "{table}");
    }
    db.drop().await;
}
