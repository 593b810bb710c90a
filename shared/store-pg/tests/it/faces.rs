//! What the reconciler reads.

use std::time::Duration;

use facewire_store_pg::{Enrolment, VectorState};

use crate::support::{face, test_database};

#[tokio::test]
async fn faces_come_in_the_order_of_their_ids_with_all_that_a_point_needs() {
    let db = test_database().await;
    let store = db.migrated().await;
    let batch: Vec<_> = (0..25).map(|i| face(&format!("s{}", i % 5), None, i)).collect();
    let mut ids: Vec<_> = store
        .begin_enrolment(&batch)
        .await
        .unwrap()
        .into_iter()
        .map(|answer| match answer {
            Enrolment::Pending { face, .. } => face,
            other => panic!("{other:?}"),
        })
        .collect();
    ids.sort();
    let (mut read, mut after) = (Vec::new(), None);
    loop {
        let page = store.faces_after(after, 10).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.face);
        read.extend(page);
    }
    assert_eq!(read.iter().map(|face| face.face).collect::<Vec<_>>(), ids);
    let source = batch.iter().find(|face| face.image_hash == read[0].image_hash).unwrap();
    assert_eq!(read[0].embedding, source.embedding);
    assert_eq!((read[0].bounding_box, read[0].landmarks), (source.bounding_box, source.landmarks));
    assert_eq!((&read[0].quality, read[0].crop), (&source.quality, source.crop));
    assert!(!format!("{:?}", read[0]).contains("0.5"), "an embedding in a log");

    store.mark_indexed(&ids[..20]).await.unwrap();
    let pending = store.pending_faces(Duration::ZERO, Some(ids[21]), 10).await.unwrap();
    assert_eq!(pending.iter().map(|face| face.face).collect::<Vec<_>>(), ids[22..]);
    assert_eq!(store.pending_faces(Duration::from_secs(3600), None, 10).await.unwrap(), []);

    assert_eq!(store.tombstone(&ids[19..21]).await.unwrap(), 2);
    assert_eq!(store.mark_indexed(&ids[19..21]).await.unwrap(), 0, "what is gone does not come back late");
    let state = |read: &[facewire_store_pg::StoredFace]| read[0].state;
    assert_eq!(state(&store.faces_after(Some(ids[18]), 1).await.unwrap()), VectorState::Tombstoned);
    assert_eq!(store.forget(&ids[18..21]).await.unwrap(), 2);
    assert_eq!(store.gallery(None).await.unwrap().faces, 23);
    db.drop().await;
}
