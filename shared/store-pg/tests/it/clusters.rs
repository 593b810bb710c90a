//! Clusterings and assignments applied: once, whole or not at all, and to nobody's faces alone. What other tests of clusters need
//! is here, too.

use std::time::Duration;

use facewire_domain::{ClusterId, FaceId, JobId, JobKind, PersonId, Quality};
use facewire_store_pg::{
    Assignment, AuditFilter, Claim, ClusterChanges, ClusterRun, FaceQuality, JobEnd, JobToken, KeptFace, LabelTarget,
    Member, NewAssignment, NewCluster, Store, UnknownFilter, VectorState,
};
use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::support::{self, TestDatabase, at, by, enrolled, face, office, person, test_database};

pub(crate) const MODEL: &str = "pack-1";

const LEASE: Duration = Duration::from_secs(60);

/// A face of nobody; its quality score grows with its number.
pub(crate) fn kept(number: u64) -> KeptFace {
    let score = f32::from(u16::try_from(number).unwrap()) / 1000.0;
    KeptFace {
        embedding: vec![0.5, 0.5, 0.5, score],
        model: MODEL.to_owned(),
        quality: Some(FaceQuality { signals: Quality { score, ..Quality::default() }, status: "ok".to_owned() }),
        captured_at: at(i64::try_from(number).unwrap()),
        ..support::kept(number)
    }
}

/// Faces of nobody, numbered from 1, with their points written; by number, and so by quality.
pub(crate) async fn unknown(store: &Store, faces: u64) -> Vec<FaceId> {
    let faces: Vec<KeptFace> = (1..=faces).map(kept).collect();
    assert!(store.keep_faces(&faces).await.unwrap().iter().all(Result::is_ok));
    let ids: Vec<FaceId> = faces.iter().map(|face| face.face).collect();
    store.mark_indexed(&ids).await.unwrap();
    ids
}

/// A job that runs.
pub(crate) async fn running(store: &Store, kind: JobKind) -> JobToken {
    let job = store.create_job(kind, &office(), &json!({}), &by()).await.unwrap().unwrap();
    taken(store, job.job).await
}

async fn taken(store: &Store, job: JobId) -> JobToken {
    match store.claim_job(job, "a worker", LEASE, 9).await.unwrap() {
        Claim::Taken(record) => record.token(),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn end(store: &Store, token: JobToken) {
    assert!(store.end_job(token, &JobEnd::Succeeded(json!({}))).await.unwrap());
}

pub(crate) fn members(faces: &[FaceId]) -> Vec<Member> {
    let outlier = |place: usize| f32::from(u8::try_from(place).unwrap()) / 100.0;
    let member = |(place, face): (usize, &FaceId)| Member { face: *face, probability: 0.75, outlier: outlier(place) };
    faces.iter().enumerate().map(member).collect()
}

/// The id of a test's cluster: its public id differs from those of others.
pub(crate) fn id(number: u32) -> ClusterId {
    ClusterId::from(Uuid::from_u128(u128::from(number) << 96))
}

pub(crate) fn public(number: u32) -> String {
    format!("clu_{number:08x}0000")
}

pub(crate) fn found(number: u32, is_new: bool, faces: &[FaceId]) -> NewCluster {
    NewCluster { cluster: id(number), is_new, centroid: vec![0.5, 0.5, 0.5, 0.25], members: members(faces) }
}

pub(crate) async fn apply(
    store: &Store,
    token: JobToken,
    clusters: &[NewCluster],
    noise: &[FaceId],
) -> Option<ClusterChanges> {
    let noise = members(noise);
    let run = ClusterRun { collection: &office(), model: MODEL, clusters, noise: &noise };
    store.apply_counted_clusters(token, &run, &json!({}), &by()).await.unwrap()
}

/// A clustering from its job's beginning to its end.
pub(crate) async fn cluster(store: &Store, clusters: &[NewCluster], noise: &[FaceId]) -> ClusterChanges {
    let token = running(store, JobKind::Cluster).await;
    let changes = apply(store, token, clusters, noise).await.unwrap();
    end(store, token).await;
    changes
}

/// The open clusters with their faces' numbers, from 0, the largest first.
pub(crate) async fn clusters(store: &Store, faces: &[FaceId]) -> Vec<(String, Vec<usize>)> {
    let (page, total) = store.clusters_page(&office(), false, 1, 100).await.unwrap();
    assert_eq!(page.len() as u64, total);
    let mut all = Vec::new();
    for cluster in page {
        let members = store.cluster_faces(cluster.cluster, None, 100).await.unwrap();
        assert_eq!(members.len() as u64, cluster.faces);
        let place = |face| faces.iter().position(|other| *other == face).unwrap();
        let mut places: Vec<usize> = members.iter().map(|member| place(member.record.face)).collect();
        places.sort_unstable();
        all.push((cluster.public_id, places));
    }
    all
}

pub(crate) fn sorted(faces: &[FaceId]) -> Vec<FaceId> {
    let mut faces = faces.to_vec();
    faces.sort();
    faces
}

/// What a row says, as an operator with psql sees it.
pub(crate) async fn number(db: &TestDatabase, sql: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {sql}");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut db.operator().await).await.unwrap()
}

/// How many rows of this kind the trail has.
pub(crate) async fn told(store: &Store, kind: &str) -> usize {
    let filter = AuditFilter { kind: Some(kind.to_owned()), ..AuditFilter::default() };
    store.audit_trail(&filter, None, 1000).await.unwrap().len()
}

pub(crate) async fn owner(store: &Store, face: FaceId) -> Option<PersonId> {
    store.face(face).await.unwrap().unwrap().person
}

pub(crate) async fn give(store: &Store, face: FaceId, to: &str) {
    store.assign_faces(&office(), &[face], Assignment::to(Some(person(to))), &by()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_run_makes_continues_and_dissolves_clusters() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 12).await;
    let first = cluster(&store, &[found(1, true, &faces[..5]), found(2, true, &faces[5..8])], &faces[8..10]).await;
    assert_eq!((first.created, first.kept, first.dissolved), (vec![public(1), public(2)], 0, vec![]));
    assert_eq!((first.moved, first.faces), (8, sorted(&faces[..8])));
    let state = async |face| store.face(face).await.unwrap().unwrap().state;
    assert_eq!((state(faces[0]).await, state(faces[8]).await), (VectorState::Pending, VectorState::Indexed));
    let (page, total) = store.clusters_page(&office(), false, 1, 1).await.unwrap();
    let largest = &page[0];
    assert_eq!((page.len(), total, largest.name.as_str(), largest.number), (1, 2, "unknown_cluster_1", 1));
    assert_eq!((largest.faces, largest.person, largest.avg_quality), (5, None, Some(0.003)));
    assert_eq!(largest.samples, [faces[4], faces[3], faces[2], faces[1]], "the best first");
    let (page, total) = store.clusters_page(&office(), false, 2, 1).await.unwrap();
    assert_eq!((page[0].public_id.clone(), page[0].name.as_str(), total), (public(2), "unknown_cluster_2", 2));
    assert_eq!(store.clusters_page(&office(), false, 3, 1).await.unwrap(), (vec![], 2));
    let open = store.open_clusters(&office(), MODEL).await.unwrap();
    assert_eq!(open.iter().map(|(cluster, _)| *cluster).collect::<Vec<_>>(), [id(1), id(2)]);
    assert!(store.open_clusters(&office(), "pack-2").await.unwrap().is_empty());
    assert_eq!(store.cluster_members(&office()).await.unwrap().len(), 8);

    // The first continues with one face less and one more, the second is no more, its faces are in a new one.
    store.mark_indexed(&faces).await.unwrap();
    let continued = [faces[..4].to_vec(), vec![faces[10]]].concat();
    let second = cluster(&store, &[found(1, false, &continued), found(3, true, &faces[5..8])], &faces[4..5]).await;
    assert_eq!((second.created, second.kept, second.dissolved), (vec![public(3)], 1, vec![public(2)]));
    let moved = [&faces[4..8], &faces[10..11]].concat();
    assert_eq!((second.moved, second.faces), (5, sorted(&moved)));
    assert_eq!(clusters(&store, &faces).await, [(public(1), vec![0, 1, 2, 3, 10]), (public(3), vec![5, 6, 7])]);
    assert_eq!(store.cluster(&office(), &public(1)).await.unwrap().unwrap().name, "unknown_cluster_1");
    assert_eq!(store.cluster(&office(), &public(3)).await.unwrap().unwrap().number, 3);
    assert_eq!(store.cluster(&office(), &public(2)).await.unwrap(), None);
    assert_eq!((state(faces[0]).await, state(faces[4]).await), (VectorState::Indexed, VectorState::Pending));
    assert_eq!(told(&store, "clusters.changed").await, 2);
    db.drop().await;
}

#[tokio::test]
async fn the_faces_of_a_cluster_come_with_those_first_that_fit_least() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 6).await;
    cluster(&store, &[found(1, true, &faces[..4])], &[]).await;
    // One that joins was not judged: it counts as if it fitted.
    let token = running(&store, JobKind::Assign).await;
    store.apply_assignments(token, &office(), &[], &[(faces[4], id(1))], &by()).await.unwrap().unwrap();
    let (mut read, mut after) = (Vec::new(), None);
    loop {
        let page = store.cluster_faces(id(1), after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.outlier.unwrap_or_default(), last.record.face));
        read.extend(page);
    }
    let ids: Vec<FaceId> = read.iter().map(|member| member.record.face).collect();
    assert_eq!(ids[..3], [faces[3], faces[2], faces[1]]);
    assert_eq!(sorted(&ids[3..]), sorted(&[faces[0], faces[4]]));
    assert_eq!((read[0].probability, read[0].outlier), (Some(0.75), Some(0.03)));
    let joined = read.iter().find(|member| member.record.face == faces[4]).unwrap();
    assert_eq!((joined.probability, joined.outlier, joined.record.cluster_id), (None, None, Some(id(1).as_uuid())));
    let vectors = store.cluster_vectors(id(1)).await.unwrap();
    assert_eq!(vectors.iter().map(|vector| vector.face).collect::<Vec<_>>(), sorted(&faces[..5]));
    assert!(store.cluster_vectors(id(2)).await.unwrap().is_empty());
    db.drop().await;
}

#[tokio::test]
async fn faces_and_clusters_that_became_somebodys_meanwhile_are_left_out() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 10).await;
    enrolled(&store, &[face("a", None, 90)]).await;
    cluster(&store, &[found(1, true, &faces[..3])], &[]).await;
    // What a clustering found is applied after people said whose faces are.
    for place in [4, 8, 9] {
        give(&store, faces[place], "a").await;
    }
    let label = LabelTarget::Name("Anna");
    store.label_cluster(&office(), &public(1), label, 3, false, &by()).await.unwrap();
    store.remove_face(faces[7], &by()).await.unwrap().unwrap();
    let clusters_found = [found(1, false, &faces[..4]), found(2, true, &faces[4..8]), found(3, true, &faces[8..])];
    let changes = cluster(&store, &clusters_found, &[]).await;
    assert_eq!((changes.created, changes.kept), (vec![public(2)], 0));
    assert_eq!((changes.moved, changes.faces), (2, sorted(&faces[5..7])));
    assert_eq!(owner(&store, faces[4]).await, Some(person("a")));
    assert_eq!(store.face(faces[3]).await.unwrap().unwrap().cluster_id, None, "the cluster is Anna's");

    // The mean that was computed holds faces that are not in the cluster.
    assert!(store.open_clusters(&office(), MODEL).await.unwrap().is_empty());
    let unset = store.clusters_without_centroid(&office(), MODEL, None, 10).await.unwrap();
    let [(which, read_at)] = unset[..] else { panic!("{unset:?}") };
    assert_eq!(which, id(2));
    let mean = [0.5, 0.5, 0.25, 0.5];
    assert!(store.set_cluster_centroid(which, MODEL, &mean, read_at).await.unwrap());
    assert_eq!(store.open_clusters(&office(), MODEL).await.unwrap(), [(id(2), mean.to_vec())]);
    assert!(store.clusters_without_centroid(&office(), MODEL, None, 10).await.unwrap().is_empty());
    // Whoever read the faces before one was erased sets nothing.
    store.tombstone(&faces[5..6]).await.unwrap();
    store.forget(&faces[5..6]).await.unwrap();
    assert!(!store.set_cluster_centroid(which, MODEL, &mean, read_at).await.unwrap());
    assert!(store.set_cluster_centroid(which, MODEL, &[f32::NAN], read_at).await.is_err());
    assert!(store.open_clusters(&office(), MODEL).await.unwrap().is_empty());
    db.drop().await;
}

#[tokio::test]
async fn whoever_lost_the_job_or_was_cancelled_writes_nothing() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 6).await;
    enrolled(&store, &[face("a", None, 90)]).await;
    let clusters_found = [found(1, true, &faces[..3])];
    let theirs = [NewAssignment { face: faces[3], person: person("a"), similarity: 0.75 }];
    let nothing = async |token: JobToken| {
        assert_eq!(apply(&store, token, &clusters_found, &faces[4..]).await, None);
        let assigned = store.apply_assignments(token, &office(), &theirs, &[(faces[4], id(1))], &by()).await;
        assert_eq!(assigned.unwrap(), None);
        assert_eq!((number(&db, "clusters").await, number(&db, "acts").await), (0, 0));
        assert_eq!(number(&db, "faces WHERE cluster_id IS NOT NULL OR cluster_outlier IS NOT NULL").await, 0);
        assert_eq!(owner(&store, faces[3]).await, None);
        assert_eq!((told(&store, "clusters.changed").await, told(&store, "face.assigned").await), (0, 0));
    };
    let cancelled = running(&store, JobKind::Cluster).await;
    store.cancel_job(cancelled.job, &by()).await.unwrap().unwrap();
    nothing(cancelled).await;
    assert!(store.end_job(cancelled, &JobEnd::Cancelled).await.unwrap());
    nothing(cancelled).await;

    let lost = running(&store, JobKind::Cluster).await;
    assert!(store.release_job(lost).await.unwrap());
    let holder = taken(&store, lost.job).await;
    nothing(lost).await;
    assert_eq!(apply(&store, holder, &clusters_found, &faces[4..]).await.unwrap().moved, 3);
    db.drop().await;
}

#[tokio::test]
async fn what_a_job_did_is_done_once_whoever_takes_it_up_again() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 6).await;
    enrolled(&store, &[face("a", None, 90)]).await;
    cluster(&store, &[found(1, true, &faces[..2])], &[]).await;
    let token = running(&store, JobKind::Cluster).await;
    let theirs = [NewAssignment { face: faces[5], person: person("a"), similarity: 0.75 }];
    let assign = async |token: JobToken, theirs: &[NewAssignment]| {
        store.apply_assignments(token, &office(), theirs, &[(faces[4], id(1))], &by()).await.unwrap().unwrap()
    };
    let assigned = assign(token, &theirs[..]).await;
    let first = apply(&store, token, &[found(2, true, &faces[..4])], &[]).await.unwrap();
    assert_eq!((first.created.len(), first.dissolved.len(), first.moved), (1, 0, 4), "one joined the first cluster");
    let acts = store.acts_of_job(token.job).await.unwrap();
    assert_eq!(acts.iter().map(|act| act.act).collect::<Vec<_>>(), [assigned.act, first.act]);
    assert_eq!(store.clusters_changed_by(&acts[1]).await.unwrap(), first);
    // The worker dies before it ends the job; another one computes something else.
    assert!(store.release_job(token).await.unwrap());
    let again = taken(&store, token.job).await;
    assert_eq!(assign(again, &theirs[..0]).await, assigned);
    assert_eq!(apply(&store, again, &[found(3, true, &faces[1..])], &faces[..1]).await.unwrap(), first);
    end(&store, again).await;
    assert_eq!(apply(&store, again, &[], &[]).await.unwrap(), first);
    assert_eq!((number(&db, "acts").await, told(&store, "clusters.changed").await), (3, 3));
    assert_eq!(clusters(&store, &faces).await, [(public(2), vec![0, 1, 2, 3]), (public(1), vec![4])]);
    db.drop().await;
}

#[tokio::test]
async fn faces_of_nobody_go_to_known_people_and_others_join_open_clusters() {
    let db = test_database().await;
    let store = db.migrated().await;
    let faces = unknown(&store, 10).await;
    enrolled(&store, &[face("a", None, 90), face("b", None, 91), face("c", None, 92)]).await;
    cluster(&store, &[found(1, true, &faces[..2]), found(2, true, &faces[2..4])], &[]).await;
    store.mark_indexed(&faces).await.unwrap();
    let label = LabelTarget::Person(person("c"));
    store.label_cluster(&office(), &public(2), label, 3, false, &by()).await.unwrap();
    store.merge_persons(person("c"), person("b"), &by()).await.unwrap().unwrap();
    assert!(store.set_negative(faces[5], person("a"), &by()).await.unwrap());
    give(&store, faces[6], "b").await;

    let token = running(&store, JobKind::Assign).await;
    let to =
        |place: usize, subject: &str| NewAssignment { face: faces[place], person: person(subject), similarity: 0.625 };
    let theirs = [to(0, "a"), to(4, "c"), to(5, "a"), to(6, "a"), to(7, "nobody")];
    let joins = [(faces[8], id(1)), (faces[9], id(2)), (faces[1], id(2)), (faces[7], id(9))];
    let changes = store.apply_assignments(token, &office(), &theirs, &joins, &by()).await.unwrap().unwrap();
    assert_eq!((changes.assigned, changes.refused), (sorted(&[faces[0], faces[4]]), 1));
    assert_eq!(changes.joined, [faces[8]]);
    assert_eq!(owner(&store, faces[4]).await, Some(person("b")), "who was merged stands for who took over");
    assert_eq!((owner(&store, faces[5]).await, owner(&store, faces[6]).await), (None, Some(person("b"))));
    let assigned = store.face(faces[0]).await.unwrap().unwrap();
    assert_eq!((assigned.cluster_id, assigned.state), (None, VectorState::Pending));
    assert_eq!(assigned.assigned_by, Some(format!("job:{}", token.job)));
    let confirmed = "faces WHERE person_id IS NOT NULL AND NOT confirmed";
    assert_eq!(number(&db, confirmed).await, 2);
    let filter =
        AuditFilter { person: Some(person("a")), kind: Some("face.assigned".to_owned()), ..Default::default() };
    let events = store.audit_trail(&filter, None, 10).await.unwrap();
    assert_eq!(events[0].detail, json!({ "actId": changes.act, "similarity": 0.625 }));
    assert!(store.open_clusters(&office(), MODEL).await.unwrap().is_empty(), "the mean was of a face that is a's");
    // A human who says the same confirms it.
    give(&store, faces[0], "a").await;
    assert_eq!((number(&db, confirmed).await, told(&store, "face.assigned").await), (1, 6));
    db.drop().await;
}

#[tokio::test]
async fn faces_of_nobody_are_read_as_the_filter_leaves_them() {
    let db = test_database().await;
    let store = db.migrated().await;
    let before = store.clock().await.unwrap();
    let faces = unknown(&store, 8).await;
    enrolled(&store, &[face("a", None, 90)]).await;
    give(&store, faces[7], "a").await;
    cluster(&store, &[found(1, true, &faces[..2])], &[]).await;
    store.tombstone(&faces[6..7]).await.unwrap();
    let read = async |model: &str, filter: &UnknownFilter| {
        let all = store.unknown_faces(&office(), model, filter, None, 100).await.unwrap();
        assert_eq!(all.len() as u64, store.count_unknown_faces(&office(), model, filter).await.unwrap());
        let place = |face| faces.iter().position(|other| *other == face).unwrap();
        let mut places: Vec<usize> = all.iter().map(|vector| place(vector.face)).collect();
        places.sort_unstable();
        places
    };
    let all = UnknownFilter::default();
    assert_eq!(read(MODEL, &all).await, [0, 1, 2, 3, 4, 5]);
    let sharp = UnknownFilter { min_quality: Some(0.004), ..all.clone() };
    assert_eq!(read(MODEL, &sharp).await, [3, 4, 5]);
    let span = UnknownFilter { captured_since: Some(at(2)), captured_until: Some(at(4)), ..all.clone() };
    assert_eq!(read(MODEL, &span).await, [1, 2]);
    let stored_since = |at| UnknownFilter { created_since: Some(at), ..UnknownFilter::default() };
    assert_eq!(read(MODEL, &stored_since(before)).await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(read(MODEL, &stored_since(store.clock().await.unwrap())).await, [0; 0]);
    let loose = UnknownFilter { without_cluster: true, ..all.clone() };
    assert_eq!(read(MODEL, &loose).await, [2, 3, 4, 5]);
    assert_eq!(store.newest_unknown_since(&office(), MODEL, &loose, 3).await.unwrap(), Some(at(4)));
    assert_eq!(store.newest_unknown_since(&office(), MODEL, &loose, 5).await.unwrap(), None);

    // Embeddings by another model lie beside the faces' own until it serves.
    assert_eq!(read("pack-2", &all).await, [0; 0]);
    store.put_reembeddings("pack-2", &[(faces[3], vec![1.0, 0.0])]).await.unwrap();
    assert_eq!(read("pack-2", &all).await, [3]);
    let page = store.unknown_faces(&office(), "pack-2", &all, None, 100).await.unwrap();
    assert_eq!((page[0].embedding.as_slice(), page[0].quality, page[0].cluster), (&[1.0, 0.0][..], Some(0.004), None));
    assert!(!format!("{:?}", page[0]).contains("embedding"), "an embedding in a log");
    let (first, rest) = (store.unknown_faces(&office(), MODEL, &all, None, 4).await.unwrap(), 2);
    let after = first.last().map(|vector| vector.face);
    assert_eq!(store.unknown_faces(&office(), MODEL, &all, after, 4).await.unwrap().len(), rest);
    db.drop().await;
}
