//! What people do with clusters: named, split and undone, and the index follows.

use std::time::Duration;

use facewire_domain::{FaceId, JobKind};
use facewire_gallery::Division;
use facewire_store_pg::{
    Assignment, Claim, ClusterRun, KeptFace, LabelOutcome, LabelTarget, Member, MergeRef, NewCluster,
};
use serde_json::json;
use uuid::Uuid;

use crate::support::{World, at, by, image_of, kept_of, office, person};

/// A face of nobody at that angle.
fn kept(world: &World, degrees: f32) -> KeptFace {
    kept_of(world, image_of("nobody", degrees), degrees)
}

/// Faces at these angles, and the public id of the one cluster that they are in.
async fn clustered(world: &World, degrees: impl Iterator<Item = f32>) -> (Vec<FaceId>, String) {
    let gallery = &world.gallery;
    let kept: Vec<KeptFace> = degrees.map(|degrees| kept(world, degrees)).collect();
    gallery.store.keep_faces(&kept).await.unwrap().into_iter().for_each(|answer| answer.unwrap());
    let faces: Vec<FaceId> = kept.iter().map(|face| face.face).collect();
    let made = gallery.store.create_job(JobKind::Cluster, &office(), &json!({}), &by()).await.unwrap();
    let claim = gallery.store.claim_job(made.unwrap().job, "a test", Duration::from_secs(60), 1).await.unwrap();
    let Claim::Taken(job) = claim else { panic!("{claim:?}") };
    let members = faces.iter().map(|face| Member { face: *face, probability: 1.0, outlier: 0.0 }).collect();
    let cluster = NewCluster { cluster: Uuid::new_v4().into(), is_new: true, centroid: at(0.0), members };
    let run = ClusterRun { collection: &office(), model: &gallery.model, clusters: &[cluster], noise: &[] };
    let changes = gallery.store.apply_counted_clusters(job.token(), &run, &json!({}), &by()).await.unwrap().unwrap();
    gallery.index_all(&changes.faces).await.unwrap();
    (faces, changes.created[0].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_split_its_part_named_and_both_are_undone() {
    let world = World::new().await;
    let gallery = &world.gallery;
    let angles = (0..12u8).map(|n| f32::from(n) + if n < 6 { 0.0 } else { 60.0 });
    let (faces, cluster) = clustered(&world, angles).await;
    let missing = gallery.split_cluster(&office(), "clu_nothing", 4, false, &by()).await.unwrap();
    assert_eq!(missing, Division::NoCluster);
    let preview = gallery.split_cluster(&office(), &cluster, 4, true, &by()).await.unwrap();
    let Division::Preview(preview) = preview else { panic!("{preview:?}") };
    assert_eq!(preview.iter().map(|part| (part.faces, part.samples.len())).collect::<Vec<_>>(), [(6, 4), (6, 4)]);
    assert_eq!(gallery.store.cluster(&office(), &cluster).await.unwrap().unwrap().faces, 12, "only told");
    let split = gallery.split_cluster(&office(), &cluster, 4, false, &by()).await.unwrap();
    let Division::Done(split) = split else { panic!("{split:?}") };
    assert_eq!(split.new.iter().map(|part| part.faces).collect::<Vec<_>>(), [6, 6]);
    assert_eq!(gallery.store.cluster(&office(), &cluster).await.unwrap(), None, "nobody is left in it");
    let part = split.new.iter().find(|part| part.samples.iter().all(|face| faces[..6].contains(face))).unwrap();
    assert_eq!(gallery.split_cluster(&office(), &part.public_id, 4, true, &by()).await.unwrap(), Division::Whole);

    let label = async |dry_run| {
        let target = LabelTarget::Name("Anna");
        let labelled = gallery.label_cluster(&office(), &part.public_id, target, dry_run, &by()).await.unwrap();
        let LabelOutcome::Done(labelled) = labelled else { panic!("{labelled:?}") };
        labelled
    };
    assert_eq!((label(true).await.faces.len(), world.nearest(2.0).await), (6, None));
    let labelled = label(false).await;
    assert_eq!((labelled.faces.len(), labelled.created, labelled.prototypes.len()), (6, true, 3));
    assert_eq!(world.nearest(2.0).await, Some(labelled.person));
    let refused = gallery.split_cluster(&office(), &part.public_id, 2, false, &by()).await.unwrap();
    assert_eq!(refused, Division::Labelled(labelled.person));

    let undone = gallery.undo(labelled.act, &by()).await.unwrap().unwrap();
    assert_eq!((undone.kind.as_str(), undone.faces.len(), world.nearest(2.0).await), ("label", 6, None));
    assert_eq!(gallery.undo(labelled.act, &by()).await.unwrap(), None);
    gallery.undo(split.act, &by()).await.unwrap().unwrap();
    assert_eq!(gallery.store.cluster(&office(), &cluster).await.unwrap().unwrap().faces, 12);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_did_is_told_while_the_index_is_away() {
    let world = World::new().await;
    let gallery = &world.gallery;
    let angles = (0..12u8).map(|n| f32::from(n) + if n < 6 { 120.0 } else { 180.0 });
    let (faces, cluster) = clustered(&world, angles).await;
    world.enrolled(&[("a", 0.0), ("b", 60.0)]).await;
    // As the reconciler does it later.
    let written = async || {
        world.index_is_away(false);
        let pending = gallery.store.pending_faces(Duration::ZERO, None, 100).await.unwrap();
        assert!(gallery.index(pending).await.unwrap() > 0);
    };

    world.index_is_away(true);
    let merged = gallery.merge(person("a"), person("b"), &by()).await.unwrap().unwrap();
    let split = gallery.split_cluster(&office(), &cluster, 4, false, &by()).await.unwrap();
    let Division::Done(split) = split else { panic!("{split:?}") };
    let part = split.new.iter().find(|part| part.samples.iter().all(|face| faces[..6].contains(face))).unwrap();
    let target = LabelTarget::Name("Anna");
    let labelled = gallery.label_cluster(&office(), &part.public_id, target, false, &by()).await.unwrap();
    let LabelOutcome::Done(labelled) = labelled else { panic!("{labelled:?}") };
    assert_eq!((merged.faces, labelled.faces.len()), (1, 6));
    assert!(gallery.store.gallery(None).await.unwrap().pending > 6);
    written().await;
    assert_eq!((world.nearest(0.0).await, world.nearest(122.0).await), (Some(person("b")), Some(labelled.person)));

    world.index_is_away(true);
    gallery.undo(labelled.act, &by()).await.unwrap().unwrap();
    gallery.unmerge(MergeRef::Merge(merged.merge), &by()).await.unwrap().unwrap();
    let assigned = Assignment::to(Some(person("b")));
    let moved = gallery.reassign(&office(), &faces[..1], assigned, &by()).await.unwrap().unwrap();
    let (subject, theirs) = ("c".parse().unwrap(), &faces[6..7]);
    let given = gallery.reassign_to_new(&office(), theirs, &subject, "Carla", false, &by()).await.unwrap();
    assert_eq!((moved.faces, given.unwrap().unwrap().faces), (1, theirs.to_vec()));
    written().await;
    assert_eq!((world.nearest(0.0).await, world.nearest(120.0).await), (Some(person("a")), Some(person("b"))));
    assert_eq!(world.nearest(186.0).await, Some(person("c")));

    world.index_is_away(true);
    let subject = "d".parse().unwrap();
    let split = gallery.split(&office(), person("b"), &faces[..1], &subject, "Dora", &by()).await.unwrap().unwrap();
    assert_eq!(split.faces, faces[..1]);
    written().await;
    assert_eq!(world.nearest(120.0).await, Some(person("d")));
    world.end().await;
}
