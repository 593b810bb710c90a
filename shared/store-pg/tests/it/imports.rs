//! Imports: every item has one ending, however often it is sent and its ending told.

use facewire_domain::{CropId, ImageHash, PersonId};
use facewire_store_pg::{
    Actor, AuditFilter, Closed, Import, ImportState, ItemEnding, ItemFilter, ItemState, NewImportItem, Store,
    StoreError,
};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::support::{self, TestDatabase, admit, bound_statements, finish, matched, queued, rejected, test_database};

fn item(number: u64) -> NewImportItem {
    NewImportItem {
        item: number,
        image_hash: ImageHash::of(&number.to_be_bytes()),
        subject: format!("s-{}", number % 2).parse().unwrap(),
        name: Some(format!("Person {}", number % 2)),
        metadata: json!({ "row": number }),
    }
}

fn crop(number: u128) -> CropId {
    Uuid::from_u128(number).into()
}

fn ending(status: &str, reason: Option<&str>) -> ItemEnding {
    ItemEnding { status: status.to_owned(), reason: reason.map(str::to_owned), ..ItemEnding::default() }
}

async fn import_of(store: &Store, items: u64) -> Import {
    let actor = Actor { key: Some(Uuid::from_u128(5)), name: "loader".to_owned(), request: Some("r-1".to_owned()) };
    let import = store.create_import(&"office".parse().unwrap(), &actor).await.unwrap();
    let items: Vec<NewImportItem> = (0..items).map(item).collect();
    let added = store.add_import_items(import.import_id, &items).await.unwrap();
    assert_eq!(added, Some(items.len() as u64));
    import
}

async fn waiting(store: &Store, import: Uuid) -> Vec<u64> {
    let filter = ItemFilter { state: Some(ItemState::Waiting), ..ItemFilter::default() };
    store.import_items_page(import, None, &filter, 100).await.unwrap().into_iter().map(|item| item.item).collect()
}

#[tokio::test]
async fn an_import_goes_from_its_items_to_its_end() {
    let db = test_database().await;
    let store = db.migrated().await;
    let import = import_of(&store, 4).await;
    let id = import.import_id;
    assert_eq!((import.state, import.actor.name.as_str()), (ImportState::Receiving, "loader"));
    let more = store.add_import_items(id, &[item(3), item(4)]).await.unwrap();
    assert_eq!(more, Some(1), "the same item twice is one");
    assert!(!store.finish_import(id).await.unwrap());
    assert_eq!(store.import_items_sent(id, &[(0, crop(10)), (1, crop(11))]).await.unwrap(), 2);
    assert_eq!(waiting(&store, id).await, [2, 3, 4]);
    assert_eq!(store.close_import(id, false).await.unwrap(), Some(Closed::Waiting(3)), "three were not sent");
    let refused =
        ItemEnding { detail: Some(json!({ "signal": "bytes" })), ..ending("rejected", Some("image_too_large")) };
    assert!(store.import_item_done(id, 2, &refused).await.unwrap());
    assert!(!store.import_item_done(id, 2, &ending("enrolled", None)).await.unwrap(), "it has its ending");
    assert_eq!(store.import_items_sent(id, &[(2, crop(12)), (3, crop(13))]).await.unwrap(), 1, "what is done stays so");
    assert_eq!(store.close_import(id, true).await.unwrap(), Some(Closed::Running));
    assert_eq!(store.close_import(id, false).await.unwrap(), Some(Closed::Running), "told again");
    assert_eq!(store.add_import_items(id, &[item(9)]).await.unwrap(), None, "nothing comes late");
    assert_eq!(store.open_imports().await.unwrap()[0].state, ImportState::Running);

    let face = Some(Uuid::from_u128(77).into());
    let results = [
        (crop(10), ItemEnding { face, ..ending("enrolled", None) }),
        (crop(11), ending("rejected", Some("no_face"))),
        (crop(99), ending("matched", None)),
    ];
    assert_eq!(store.import_crops_done(&results).await.unwrap(), [id]);
    assert!(store.import_crops_done(&results).await.unwrap().is_empty(), "told again");
    assert!(!store.finish_import(id).await.unwrap(), "one is on its way");
    store.import_crops_done(&[(crop(13), ending("enrolled", None))]).await.unwrap();
    let progress = store.import_progress(id).await.unwrap();
    let counts: Vec<_> = progress
        .iter()
        .map(|c| (c.state, c.status.as_deref().unwrap_or_default(), c.reason.as_deref().unwrap_or_default(), c.items))
        .collect();
    let done = ItemState::Done;
    let expected = [
        (done, "enrolled", "", 2),
        (done, "failed", "timeout", 1),
        (done, "rejected", "image_too_large", 1),
        (done, "rejected", "no_face", 1),
    ];
    assert_eq!(counts, expected);
    assert!(store.finish_import(id).await.unwrap());
    assert!(!store.finish_import(id).await.unwrap());
    assert_eq!(store.close_import(id, false).await.unwrap(), Some(Closed::Ended(ImportState::Finished)));
    let events = store.unpublished_events(10).await.unwrap();
    let told = events.iter().filter(|event| event.kind == "import.finished");
    let told: Vec<_> = told.map(|event| (&event.actor, &event.detail["total"])).collect();
    assert_eq!(told, [(&import.actor, &json!(5))]);
    assert!(store.open_imports().await.unwrap().is_empty());
    let items = store.import_items_page(id, None, &ItemFilter::default(), 10).await.unwrap();
    assert_eq!((items[0].face, items[0].crop, &items[2].detail), (face, Some(crop(10)), &refused.detail));
    assert_eq!(store.close_import(Uuid::new_v4(), true).await.unwrap(), None);
    db.drop().await;
}

#[tokio::test]
async fn items_end_as_their_crops_do() {
    let db = test_database().await;
    let store = db.migrated().await;
    let import = import_of(&store, 6).await;
    let id = import.import_id;
    let crops: Vec<_> = (0..4).map(support::crop).collect();
    admit(&store, &crops).await;
    for (number, crop) in (0..).zip(&crops) {
        // One at a time, each later than the one before.
        store.import_items_sent(id, &[(3 - number, crop.head.crop)]).await.unwrap();
    }
    finish(&store, &[matched(0), rejected(2)]).await;

    // In the order of sending, in steps of two.
    let first = store.import_endings(id, None, 2).await.unwrap();
    assert_eq!(first.ended.iter().map(|ended| ended.crop).collect::<Vec<_>>(), [crops[0].head.crop]);
    assert_eq!((first.ended[0].ending.status.as_str(), &first.ended[0].metadata), ("matched", &json!({ "row": 3 })));
    let second = store.import_endings(id, first.next, 2).await.unwrap();
    assert_eq!(second.ended[0].ending.reason.as_deref(), Some("low_quality"));
    let end = store.import_endings(id, second.next, 2).await.unwrap();
    assert!(end.ended.is_empty() && end.next.is_none());
    let all: Vec<_> = first.ended.into_iter().chain(second.ended).map(|ended| (ended.crop, ended.ending)).collect();
    assert_eq!(store.import_crops_done(&all).await.unwrap(), [id]);
    assert!(store.import_endings(id, None, 10).await.unwrap().ended.is_empty(), "what is done is not looked at");
    let items = store.import_items_of(id, &[1, 3, 77]).await.unwrap();
    let mut told: Vec<_> = items.iter().map(|item| (item.item, item.state, item.attempts)).collect();
    told.sort_unstable();
    assert_eq!(told, [(1, ItemState::Done, 1), (3, ItemState::Done, 1)]);
    db.drop().await;
}

#[tokio::test]
async fn items_come_in_pages_and_by_what_became_of_them() {
    let db = test_database().await;
    let store = db.migrated().await;
    let id = import_of(&store, 10).await.import_id;
    for number in 0..10 {
        let ending = if number < 7 { ending("enrolled", None) } else { ending("rejected", Some("no_face")) };
        store.import_item_done(id, number, &ending).await.unwrap();
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = store.import_items_page(id, after, &ItemFilter::default(), 4).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.item);
        seen.extend(page.iter().map(|item| item.item));
    }
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
    let rejected = ItemFilter { reason: Some("no_face".to_owned()), ..ItemFilter::default() };
    assert_eq!(store.import_items_page(id, Some(7), &rejected, 10).await.unwrap().len(), 2);
    let waiting = ItemFilter { state: Some(ItemState::Waiting), ..ItemFilter::default() };
    assert!(store.import_items_page(id, None, &waiting, 10).await.unwrap().is_empty());
    let first = &store.import_items_page(id, None, &ItemFilter::default(), 1).await.unwrap()[0];
    assert_eq!((first.image_hash, &first.metadata), (item(0).image_hash, &json!({ "row": 0 })));
    assert_eq!(first.subject, Some("s-0".parse().unwrap()));
    db.drop().await;
}

#[tokio::test]
async fn an_erased_person_is_in_no_item_and_is_not_sent_any_more() {
    let db = test_database().await;
    let store = db.migrated().await;
    let import = import_of(&store, 4).await;
    let id = import.import_id;
    store.import_item_done(id, 0, &ending("enrolled", None)).await.unwrap();
    let erased = PersonId::derive(&import.collection, &"s-0".parse().unwrap());
    assert_eq!(store.erase_import_items_of(erased).await.unwrap(), 2);
    assert_eq!(store.erase_import_items_of(erased).await.unwrap(), 0);
    let items = store.import_items_page(id, None, &ItemFilter::default(), 10).await.unwrap();
    let told: Vec<_> = items.iter().map(|i| (i.status.as_deref(), i.reason.as_deref(), i.name.is_some())).collect();
    let expected = [
        (Some("enrolled"), None, false),
        (None, None, true),
        (Some("rejected"), Some("erased"), false),
        (None, None, true),
    ];
    assert_eq!(told, expected);
    assert!(items[2].subject.is_none() && items[2].metadata == json!({}));
    assert_eq!(waiting(&store, id).await, [1, 3]);
    db.drop().await;
}

#[tokio::test]
async fn an_import_goes_with_its_age_or_its_collection() {
    let db = test_database().await;
    let store = db.migrated().await;
    let (old, open) = (import_of(&store, 1).await, import_of(&store, 1).await);
    let (by, id) = (Actor::named("operator"), old.import_id);
    assert!(store.cancel_import(id, &by).await.unwrap());
    assert!(!store.cancel_import(id, &by).await.unwrap(), "it has ended");
    let trail = store.audit_trail(&AuditFilter::default(), None, 100).await.unwrap();
    let of_it = trail.iter().rev().filter(|row| row.detail["import_id"] == json!(id));
    let told: Vec<_> = of_it.map(|row| (row.kind.as_str(), &row.actor, row.collection.is_some())).collect();
    assert_eq!(told, [("import.created", &old.actor, true), ("import.cancelled", &by, true)]);
    let future = OffsetDateTime::now_utc() + time::Duration::HOUR;
    let past = OffsetDateTime::now_utc() - time::Duration::HOUR;
    assert_eq!(store.expire_imports(past, 10).await.unwrap(), 0);
    assert_eq!(store.expire_imports(future, 1).await.unwrap(), 1);
    assert!(store.import(old.import_id).await.unwrap().is_none());
    assert!(store.import(open.import_id).await.unwrap().is_some());
    sqlx::query("DELETE FROM collections").execute(&mut db.operator().await).await.unwrap();
    assert!(store.import(open.import_id).await.unwrap().is_none());
    assert!(store.import_items_page(open.import_id, None, &ItemFilter::default(), 1).await.unwrap().is_empty());
    db.drop().await;
}

/// More than a statement may have.
const MANY: u64 = 3000;

/// Items that wait, and as many that were sent long ago, after those that there are.
async fn many_items(db: &TestDatabase, import: Uuid) {
    const SQL: &str = "
INSERT INTO import_items (import_id, item, image_hash, state, crop_id, due_at)
SELECT $1, 100 + n, sha256(''::bytea), CASE n % 2 WHEN 0 THEN 'waiting' ELSE 'sent' END,
    CASE n % 2 WHEN 0 THEN NULL ELSE gen_random_uuid() END, now() - interval '2 hours'
FROM generate_series(1, 2 * $2::bigint) AS n";
    sqlx::query(SQL).bind(import).bind(MANY.cast_signed()).execute(&mut db.operator().await).await.unwrap();
}

#[tokio::test]
async fn imports_expire_in_short_statements_however_many_items_they_have() {
    let db = test_database().await;
    let store = db.migrated().await;
    let (old, other) = (import_of(&store, 1).await.import_id, import_of(&store, 1).await.import_id);
    many_items(&db, old).await;
    bound_statements(&db, "import_items").await;
    let future = OffsetDateTime::now_utc() + time::Duration::HOUR;
    assert_eq!(store.expire_imports(future, 1).await, Ok(1));
    assert!(store.import(old).await.unwrap().is_none());
    assert!(store.import(other).await.unwrap().is_some());
    assert_eq!(queued(&db).await.1, 1);
    assert_eq!(store.expire_imports(future, 10).await, Ok(1));
    db.drop().await;
}

#[tokio::test]
async fn force_takes_short_statements_however_many_items_there_are() {
    let db = test_database().await;
    let store = db.migrated().await;
    let (forced, cancelled) = (import_of(&store, 1).await.import_id, import_of(&store, 1).await.import_id);
    for import in [forced, cancelled] {
        many_items(&db, import).await;
        // Just now: its ending will come.
        store.import_items_sent(import, &[(0, crop(10))]).await.unwrap();
    }
    assert!(store.cancel_import(cancelled, &Actor::named("operator")).await.unwrap());
    bound_statements(&db, "import_items").await;
    let counts = async |import| {
        let progress = store.import_progress(import).await.unwrap();
        progress.into_iter().map(|count| (count.state, count.reason, count.items)).collect::<Vec<_>>()
    };
    let timeout = Some("timeout".to_owned());
    assert_eq!(store.close_import(forced, true).await, Ok(Some(Closed::Running)));
    assert_eq!(counts(forced).await, [(ItemState::Done, timeout.clone(), 2 * MANY), (ItemState::Sent, None, 1)]);
    assert_eq!(store.close_import(cancelled, true).await, Ok(Some(Closed::Ended(ImportState::Cancelled))));
    assert_eq!(counts(cancelled).await, [(ItemState::Sent, None, MANY + 1), (ItemState::Waiting, None, MANY)]);

    // Of one that runs, what is lost alone.
    let old = "UPDATE import_items SET state = 'sent', status = NULL, reason = NULL, crop_id = gen_random_uuid()
               WHERE import_id = $1 AND item > $2 AND item <= $2 + 1000";
    let mut operator = db.operator().await;
    for step in 0..3 {
        sqlx::query(old).bind(forced).bind(100 + step * 1000_i64).execute(&mut operator).await.unwrap();
    }
    assert_eq!(counts(forced).await, [(ItemState::Done, timeout.clone(), MANY), (ItemState::Sent, None, MANY + 1)]);
    assert_eq!(store.close_import(forced, true).await, Ok(Some(Closed::Running)));
    assert_eq!(counts(forced).await, [(ItemState::Done, timeout, 2 * MANY), (ItemState::Sent, None, 1)]);
    db.drop().await;
}

#[tokio::test]
async fn what_is_out_of_bounds_is_named_and_nothing_is_added() {
    let db = test_database().await;
    let store = db.migrated().await;
    let id = import_of(&store, 1).await.import_id;
    let large = NewImportItem { metadata: json!({ "a": "x".repeat(17_000) }), ..item(5) };
    let list = NewImportItem { metadata: json!([]), ..item(5) };
    for bad in [large, list, NewImportItem { name: Some("x".repeat(1025)), ..item(5) }] {
        let refused = store.add_import_items(id, &[item(4), bad]).await.unwrap_err();
        assert!(matches!(refused, StoreError::Invalid { index: 1, .. }), "{refused}");
    }
    assert_eq!(store.import(id).await.unwrap().unwrap().total, 1);
    assert_eq!(store.add_import_items(Uuid::new_v4(), &[item(1)]).await.unwrap(), None);
    db.drop().await;
}

#[tokio::test]
async fn force_ends_what_was_sent_long_ago_and_never_admitted() {
    let db = test_database().await;
    let store = db.migrated().await;
    let id = import_of(&store, 3).await.import_id;
    let admitted = support::crop(1);
    admit(&store, std::slice::from_ref(&admitted)).await;
    let sent = [(0, crop(10)), (1, admitted.head.crop), (2, crop(12))];
    assert_eq!(store.import_items_sent(id, &sent).await.unwrap(), 3);
    let old = "UPDATE import_items SET due_at = now() - interval '61 minutes' WHERE item < 2";
    sqlx::query(old).execute(&mut db.operator().await).await.unwrap();
    assert_eq!(store.close_import(id, false).await.unwrap(), Some(Closed::Running));
    let on_their_way = async || {
        let filter = ItemFilter { state: Some(ItemState::Sent), ..ItemFilter::default() };
        let items = store.import_items_page(id, None, &filter, 10).await.unwrap();
        items.into_iter().map(|item| item.item).collect::<Vec<_>>()
    };
    assert_eq!(on_their_way().await, [0, 1, 2]);
    for _ in 0..2 {
        assert_eq!(store.close_import(id, true).await.unwrap(), Some(Closed::Running));
        assert_eq!(on_their_way().await, [1, 2], "one was admitted, and one may still wait in the stream");
    }
    let lost = &store.import_items_of(id, &[0]).await.unwrap()[0];
    assert_eq!((lost.status.as_deref(), lost.reason.as_deref()), (Some("failed"), Some("timeout")));
    assert!(!store.finish_import(id).await.unwrap());
    // An ending that comes late after all changes nothing.
    let endings = [crop(10), admitted.head.crop, crop(12)].map(|crop| (crop, ending("enrolled", None)));
    store.import_crops_done(&endings).await.unwrap();
    assert_eq!(store.import_items_of(id, &[0]).await.unwrap()[0].status.as_deref(), Some("failed"));
    assert!(store.finish_import(id).await.unwrap());
    db.drop().await;
}
