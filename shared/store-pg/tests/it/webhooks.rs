//! Webhooks and what waits for them: in order for each key, nothing lost, nobody held up by another.

use std::time::Duration;

use facewire_domain::{PersonId, Status};
use facewire_store_pg::{
    Actor, AuditFilter, ClaimLimits, Claimed, NewDelivery, NewWebhook, Source, Store, StoreError, Webhook,
    WebhookChanges, WebhookFilter,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::support::{TestDatabase, bound_statements, queued, test_database};

const LEASE: Duration = Duration::from_secs(60);

fn limits(limit: u32, per_webhook: u32) -> ClaimLimits {
    ClaimLimits { limit, per_webhook, lease: LEASE }
}

fn operator() -> Actor {
    Actor { key: None, name: "cli".to_owned(), request: None }
}

fn new() -> NewWebhook {
    NewWebhook {
        collection: None,
        url: "https://example.org/hook".to_owned(),
        secret: "hidden".into(),
        filter: WebhookFilter::default(),
        cursor_results: 0,
        cursor_events: 0,
    }
}

pub(crate) async fn webhook(store: &Store) -> Webhook {
    store.create_webhook(&new(), &operator()).await.unwrap().unwrap()
}

async fn switch_off(store: &Store, id: Uuid) {
    let changes = WebhookChanges { active: Some(false), ..Default::default() };
    store.update_webhook(id, &changes, &operator()).await.unwrap().unwrap();
}

fn row(sequence: u64, order_key: &str) -> NewDelivery {
    let body = sequence.to_string().into_bytes();
    NewDelivery { sequence, order_key: order_key.to_owned(), persons: Vec::new(), body }
}

fn past() -> OffsetDateTime {
    OffsetDateTime::now_utc() - time::Duration::HOUR
}

fn future() -> OffsetDateTime {
    OffsetDateTime::now_utc() + time::Duration::HOUR
}

/// Takes all that is due; by sequence.
async fn claim(store: &Store) -> Vec<Claimed> {
    let mut claimed = store.claim_deliveries(limits(100, 100), &[]).await.unwrap();
    claimed.sort_by_key(|delivery| delivery.sequence);
    claimed
}

fn sequences(claimed: &[Claimed]) -> Vec<u64> {
    claimed.iter().map(|delivery| delivery.sequence).collect()
}

#[tokio::test]
async fn a_webhook_is_made_changed_and_removed_and_the_trail_says_so() {
    let db = test_database().await;
    let store = db.migrated().await;
    let filter = WebhookFilter {
        kinds: vec!["person.created".to_owned()],
        statuses: vec![Status::Matched],
        cameras: vec!["door-1".parse().unwrap()],
        persons: vec![Uuid::from_u128(7).into()],
        unknown_only: true,
    };
    let made = NewWebhook { filter: filter.clone(), cursor_results: 5, ..new() };
    let made = store.create_webhook(&made, &operator()).await.unwrap().unwrap();
    assert_eq!((made.cursor_results, made.cursor_events, made.active), (5, 0, true));
    let read = store.webhook(made.webhook_id).await.unwrap().unwrap();
    assert_eq!((read.filter, read.secret.expose()), (filter, "hidden"));
    assert!(!format!("{made:?}{}", serde_json::to_string(&made).unwrap()).contains("hidden"));

    // As an erasure of everybody whom it was about leaves it.
    let erased = "UPDATE webhooks SET active = false, disabled_reason = 'they are erased'";
    sqlx::query(erased).execute(&mut db.operator().await).await.unwrap();
    let off = store.webhook(made.webhook_id).await.unwrap().unwrap();
    assert_eq!((off.active, off.disabled_reason.as_deref()), (false, Some("they are erased")));
    let changes =
        WebhookChanges { active: Some(true), url: Some("https://example.org/2".to_owned()), ..Default::default() };
    let on = store.update_webhook(made.webhook_id, &changes, &operator()).await.unwrap().unwrap();
    assert_eq!((on.active, on.disabled_reason, on.url.as_str()), (true, None, "https://example.org/2"));
    assert_eq!((on.filter.unknown_only, on.secret.expose()), (true, "hidden"), "the rest stays");
    assert!(store.update_webhook(Uuid::new_v4(), &changes, &operator()).await.unwrap().is_none());

    let of_none = NewWebhook { collection: Some("nowhere".parse().unwrap()), ..new() };
    assert!(store.create_webhook(&of_none, &operator()).await.unwrap().is_none());
    let refused = store.create_webhook(&NewWebhook { url: "a\nb".to_owned(), ..new() }, &operator()).await;
    assert!(matches!(refused, Err(StoreError::Invalid { .. })));
    assert_eq!(store.webhooks().await.unwrap().len(), 1);
    assert!(store.delete_webhook(made.webhook_id, &operator()).await.unwrap());
    assert!(!store.delete_webhook(made.webhook_id, &operator()).await.unwrap());
    let trail = store.audit_trail(&AuditFilter::default(), None, 100).await.unwrap();
    let kinds: Vec<_> = trail.iter().rev().map(|row| row.kind.as_str()).collect();
    assert_eq!(kinds, ["webhook.created", "webhook.updated", "webhook.deleted"]);
    db.drop().await;
}

#[tokio::test]
async fn of_each_key_one_is_told_at_a_time_and_in_order() {
    let db = test_database().await;
    let store = db.migrated().await;
    let id = webhook(&store).await.webhook_id;
    let rows = [row(3, "ada"), row(1, "ada"), row(2, "eve"), row(9, "ada")];
    assert_eq!(store.enqueue(id, Source::Results, 0, 5, &rows).await.unwrap(), Some(5), "what is beyond is left out");
    let again = store.enqueue(id, Source::Results, 0, 4, &rows).await.unwrap();
    assert_eq!(again, Some(5), "a reader that is behind adds nothing");

    let first = claim(&store).await;
    assert_eq!(sequences(&first), [1, 2]);
    assert_eq!((first[0].attempt, first[0].body.as_slice(), first[0].source), (1, &b"1"[..], Source::Results));
    assert_eq!((first[0].url.as_str(), first[0].secret.expose()), ("https://example.org/hook", "hidden"));
    assert!(claim(&store).await.is_empty(), "all that is due is in hand");
    // More of a key that is in hand waits behind it.
    store.enqueue(id, Source::Results, 5, 7, &[row(6, "ada"), row(7, "bob")]).await.unwrap();
    assert_eq!(sequences(&claim(&store).await), [7]);

    assert!(store.failed(&first[0], "503", Duration::ZERO).await.unwrap());
    let retried = claim(&store).await;
    assert_eq!((sequences(&retried), retried[0].attempt), (vec![1], 2), "the same again, and nothing after it");
    assert!(!store.delivered(&first[0]).await.unwrap(), "of an attempt that is not the last one nothing counts");
    assert!(store.failed(&retried[0], "503", Duration::from_secs(3600)).await.unwrap());
    assert!(claim(&store).await.is_empty(), "it waits");
    sqlx::query("UPDATE webhook_deliveries SET next_at = now() WHERE state = 'pending' AND sequence = 1")
        .execute(&mut db.operator().await)
        .await
        .unwrap();
    let third = claim(&store).await;
    assert!(store.delivered(&third[0]).await.unwrap());
    assert!(!store.delivered(&third[0]).await.unwrap());
    let next = claim(&store).await;
    assert_eq!(sequences(&next), [3]);
    // One that is given up does not hold up the next.
    assert!(store.dead(&next[0], "410 gone").await.unwrap());
    assert_eq!(sequences(&claim(&store).await), [6]);
    let dead = store.dead_deliveries(id, None, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].sequence, dead[0].last_error.as_deref()), (1, 3, Some("410 gone")));
    assert!(store.dead_deliveries(id, Some(dead[0].delivery_id), 10).await.unwrap().is_empty());
    db.drop().await;
}

#[tokio::test]
async fn a_lease_that_ends_gives_the_delivery_to_another() {
    let db = test_database().await;
    let store = db.migrated().await;
    let id = webhook(&store).await.webhook_id;
    store.enqueue(id, Source::Events, 0, 2, &[row(1, "ada"), row(2, "ada")]).await.unwrap();
    let short = ClaimLimits { lease: Duration::ZERO, ..limits(10, 10) };
    let first = store.claim_deliveries(short, &[]).await.unwrap();
    let second = store.claim_deliveries(limits(10, 10), &[]).await.unwrap();
    assert_eq!((sequences(&first), sequences(&second)), (vec![1], vec![1]));
    assert!(!store.delivered(&first[0]).await.unwrap());
    assert!(store.delivered(&second[0]).await.unwrap());
    assert_eq!(sequences(&claim(&store).await), [2]);
    db.drop().await;
}

#[tokio::test]
async fn a_webhook_with_much_to_tell_leaves_room_for_others() {
    let db = test_database().await;
    let store = db.migrated().await;
    let (busy, calm, off) = (webhook(&store).await, webhook(&store).await, webhook(&store).await);
    let many: Vec<NewDelivery> = (1..=50).map(|n| row(n, &n.to_string())).collect();
    store.enqueue(busy.webhook_id, Source::Results, 0, 50, &many).await.unwrap();
    store.enqueue(calm.webhook_id, Source::Results, 0, 1, &[row(1, "ada")]).await.unwrap();
    store.enqueue(off.webhook_id, Source::Results, 0, 1, &[row(1, "ada")]).await.unwrap();
    switch_off(&store, off.webhook_id).await;
    let claimed = store.claim_deliveries(limits(10, 4), &[]).await.unwrap();
    let of = |webhook: &Webhook| claimed.iter().filter(|c| c.webhook_id == webhook.webhook_id).count();
    assert_eq!((of(&busy), of(&calm), of(&off)), (4, 1, 0));
    assert!(store.claim_deliveries(limits(10, 4), &[busy.webhook_id]).await.unwrap().is_empty());
    // Two who claim at the same time get different ones.
    let (a, b) = tokio::join!(store.claim_deliveries(limits(20, 20), &[]), store.claim_deliveries(limits(20, 20), &[]));
    let mut all = sequences(&[a.unwrap(), b.unwrap()].concat());
    let number = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), number);
    db.drop().await;
}

#[tokio::test]
async fn a_replay_tells_everything_again_in_order_with_what_was_gone() {
    let db = test_database().await;
    let store = db.migrated().await;
    let id = webhook(&store).await.webhook_id;
    let rows: Vec<NewDelivery> = (1..=4).map(|n| row(n, "ada")).collect();
    store.enqueue(id, Source::Results, 0, 4, &rows).await.unwrap();
    for _ in 1..=3 {
        store.delivered(&claim(&store).await[0]).await.unwrap();
    }
    let in_hand = claim(&store).await;
    assert_eq!(sequences(&in_hand), [4]);
    // The first was removed since.
    assert_eq!(store.expire_deliveries(future(), 1).await.unwrap(), 1);

    assert_eq!(store.replay(id, Source::Results, 1, &operator()).await.unwrap(), Some(3));
    assert_eq!(store.webhook(id).await.unwrap().unwrap().cursor_results, 0);
    let replays = AuditFilter { kind: Some("webhook.replayed".to_owned()), ..AuditFilter::default() };
    let trail = store.audit_trail(&replays, None, 10).await.unwrap();
    let told: Vec<_> = trail.iter().map(|row| (&row.actor, row.collection.is_none(), &row.detail["from"])).collect();
    assert_eq!(told, [(&operator(), true, &serde_json::json!(1))]);
    assert!(!store.delivered(&in_hand[0]).await.unwrap(), "the claim is void");
    assert!(claim(&store).await.is_empty(), "what comes before is not there yet");
    store.enqueue(id, Source::Results, 0, 2, &rows).await.unwrap();
    let mut told = Vec::new();
    for _ in 1..=2 {
        let next = claim(&store).await;
        told.extend(sequences(&next));
        store.delivered(&next[0]).await.unwrap();
    }
    assert!(claim(&store).await.is_empty(), "beyond the cursor nothing is due");
    // The stream has no more; the reader says so.
    store.enqueue(id, Source::Results, 2, 4, &[]).await.unwrap();
    for _ in 3..=4 {
        let next = claim(&store).await;
        told.extend(sequences(&next));
        store.delivered(&next[0]).await.unwrap();
    }
    assert_eq!(told, [1, 2, 3, 4]);
    assert_eq!(store.replay(Uuid::new_v4(), Source::Results, 1, &operator()).await.unwrap(), None);
    assert_eq!(store.enqueue(Uuid::new_v4(), Source::Results, 0, 1, &[]).await.unwrap(), None);
    db.drop().await;
}

#[tokio::test]
async fn what_a_sender_of_before_a_replay_says_does_not_count_after_it() {
    let db = test_database().await;
    let store = db.migrated().await;
    let id = webhook(&store).await.webhook_id;
    store.enqueue(id, Source::Results, 0, 1, &[row(1, "ada")]).await.unwrap();
    let before = claim(&store).await;
    assert_eq!(store.replay(id, Source::Results, 1, &operator()).await.unwrap(), Some(1));
    store.enqueue(id, Source::Results, 0, 1, &[]).await.unwrap();
    let after = claim(&store).await;
    assert_eq!((before[0].delivery_id, before[0].attempt), (after[0].delivery_id, after[0].attempt));
    // It was slow, and has told the first.
    assert!(!store.failed(&before[0], "503", Duration::ZERO).await.unwrap());
    assert!(!store.dead(&before[0], "410 gone").await.unwrap());
    assert!(!store.delivered(&before[0]).await.unwrap());
    assert!(store.delivered(&after[0]).await.unwrap(), "the replay is told");
    db.drop().await;
}

#[tokio::test]
async fn a_replay_is_not_lost_on_a_reader_that_is_further_on() {
    let db = test_database().await;
    let store = db.migrated().await;
    // Nothing of what came before the webhook is stored.
    let late = NewWebhook { cursor_results: 4, ..new() };
    let id = store.create_webhook(&late, &operator()).await.unwrap().unwrap().webhook_id;
    assert_eq!(store.replay(id, Source::Results, 0, &operator()).await.unwrap(), Some(0));
    // The reader read on from 4 and does not know of it.
    let behind = store.enqueue(id, Source::Results, 4, 5, &[row(5, "ada")]).await.unwrap();
    assert_eq!(behind, Some(0), "the reader is sent back");
    assert_eq!(store.webhook(id).await.unwrap().unwrap().cursor_results, 0);
    assert!(claim(&store).await.is_empty(), "nothing was added");

    let rows: Vec<NewDelivery> = (1..=5).map(|n| row(n, "ada")).collect();
    assert_eq!(store.enqueue(id, Source::Results, 0, 5, &rows).await.unwrap(), Some(5));
    // One whose place another process has passed misses nothing: its rows go on from before the cursor.
    let rows: Vec<NewDelivery> = (3..=6).map(|n| row(n, "ada")).collect();
    assert_eq!(store.enqueue(id, Source::Results, 2, 6, &rows).await.unwrap(), Some(6));
    for sequence in 1..=6 {
        let next = claim(&store).await;
        assert_eq!(sequences(&next), [sequence]);
        store.delivered(&next[0]).await.unwrap();
    }
    db.drop().await;
}

#[tokio::test]
async fn a_person_is_erased_from_the_queue_and_the_next_is_due() {
    let db = test_database().await;
    let store = db.migrated().await;
    let id = webhook(&store).await.webhook_id;
    let (ada, eve) = (PersonId::from(Uuid::from_u128(1)), PersonId::from(Uuid::from_u128(2)));
    let naming =
        |sequence, key: &str, persons: &[PersonId]| NewDelivery { persons: persons.to_vec(), ..row(sequence, key) };
    let rows = [naming(1, "k", &[ada, eve]), naming(2, "k", &[eve]), naming(3, "other", &[ada]), row(4, "other")];
    store.enqueue(id, Source::Events, 0, 4, &rows).await.unwrap();
    assert_eq!(store.erase_deliveries_of(ada).await.unwrap(), 2);
    assert_eq!(store.erase_deliveries_of(ada).await.unwrap(), 0);
    assert_eq!(sequences(&claim(&store).await), [2, 4]);

    // A filter that named them alone must not let everybody through.
    let about = |persons: &[PersonId]| NewWebhook {
        filter: WebhookFilter { persons: persons.to_vec(), ..WebhookFilter::default() },
        ..new()
    };
    let alone = store.create_webhook(&about(&[ada]), &operator()).await.unwrap().unwrap();
    let both = store.create_webhook(&about(&[ada, eve]), &operator()).await.unwrap().unwrap();
    assert_eq!(store.erase_from_webhooks(&[ada]).await.unwrap(), 2);
    let alone = store.webhook(alone.webhook_id).await.unwrap().unwrap();
    assert_eq!((alone.filter.persons, alone.active), (vec![PersonId::from(Uuid::nil())], false));
    let both = store.webhook(both.webhook_id).await.unwrap().unwrap();
    assert_eq!((both.filter.persons, both.active, both.disabled_reason), (vec![eve], true, None));
    assert_eq!(store.erase_from_webhooks(&[ada]).await.unwrap(), 0);
    db.drop().await;
}

#[tokio::test]
async fn old_deliveries_go_and_pending_ones_only_where_nobody_is_told() {
    let db = test_database().await;
    let store = db.migrated().await;
    let (on, off) = (webhook(&store).await.webhook_id, webhook(&store).await.webhook_id);
    for id in [on, off] {
        store.enqueue(id, Source::Results, 0, 2, &[row(1, "a"), row(2, "a")]).await.unwrap();
    }
    assert_eq!(store.expire_deliveries(past(), 10).await.unwrap(), 0);
    assert_eq!(store.expire_deliveries(future(), 10).await.unwrap(), 0, "they are still to be told");
    switch_off(&store, off).await;
    assert_eq!(store.expire_deliveries(future(), 1).await.unwrap(), 1);
    let changes = WebhookChanges { active: Some(true), ..Default::default() };
    store.update_webhook(off, &changes, &operator()).await.unwrap();
    let due = claim(&store).await;
    let of = |id| due.iter().filter(|c| c.webhook_id == id).map(|c| c.sequence).collect::<Vec<_>>();
    assert_eq!((of(on), of(off)), (vec![1], vec![2]), "what came after what was removed is due");
    for delivery in &due {
        store.delivered(delivery).await.unwrap();
    }
    assert_eq!(store.expire_deliveries(past(), 10).await.unwrap(), 0);
    assert_eq!(store.expire_deliveries(future(), 10).await.unwrap(), 2);
    assert_eq!(sequences(&claim(&store).await), [2]);
    db.drop().await;
}

#[tokio::test]
async fn what_waited_too_long_is_given_up_and_what_came_later_is_due() {
    let db = test_database().await;
    let store = db.migrated().await;
    let id = webhook(&store).await.webhook_id;
    store.enqueue(id, Source::Results, 0, 3, &[row(1, "a"), row(2, "a"), row(3, "b")]).await.unwrap();
    let in_hand = claim(&store).await;
    assert_eq!(sequences(&in_hand), [1, 3]);
    assert_eq!(store.give_up_deliveries(past(), 10).await.unwrap(), 0);
    assert_eq!(store.give_up_deliveries(future(), 1).await.unwrap(), 1);
    assert!(!store.delivered(&in_hand[0]).await.unwrap(), "it is given up");
    assert_eq!(sequences(&claim(&store).await), [2], "and the next of its key is due");
    assert_eq!(store.give_up_deliveries(future(), 10).await.unwrap(), 2);
    assert_eq!(store.give_up_deliveries(future(), 10).await.unwrap(), 0);
    let dead = store.dead_deliveries(id, None, 10).await.unwrap();
    let said: Vec<(u64, Option<&str>)> = dead.iter().map(|dead| (dead.sequence, dead.last_error.as_deref())).collect();
    assert_eq!(said, [3, 2, 1].map(|sequence| (sequence, Some("not told in time"))));
    // Who asks for them again has the whole time anew.
    let began = OffsetDateTime::now_utc();
    assert_eq!(store.replay(id, Source::Results, 1, &operator()).await.unwrap(), Some(3));
    assert_eq!(store.give_up_deliveries(began, 10).await.unwrap(), 0);
    db.drop().await;
}

/// More than a statement may have.
const MANY: i32 = 3000;

/// Deliveries that have ended.
async fn ended(db: &TestDatabase, webhook: Uuid) {
    const SQL: &str = "
INSERT INTO webhook_deliveries (webhook_id, source, sequence, order_key, body, state, attempts, ended_at)
SELECT $1, 'results', n, 'ada', ''::bytea, 'delivered', 1, now() FROM generate_series(1, $2::int) AS n";
    sqlx::query(SQL).bind(webhook).bind(MANY).execute(&mut db.operator().await).await.unwrap();
    bound_statements(db, "webhook_deliveries").await;
}

#[tokio::test]
async fn a_webhook_goes_in_short_statements_however_much_waits_for_it() {
    let db = test_database().await;
    let store = db.migrated().await;
    let (gone, other) = (webhook(&store).await.webhook_id, webhook(&store).await.webhook_id);
    store.enqueue(other, Source::Results, 0, 1, &[row(1, "ada")]).await.unwrap();
    ended(&db, gone).await;
    assert_eq!(store.delete_webhook(gone, &operator()).await, Ok(true));
    assert!(store.webhook(gone).await.unwrap().is_none());
    assert_eq!(queued(&db).await.0, 1, "what is another's stays");
    db.drop().await;
}

#[tokio::test]
async fn a_replay_takes_short_statements_however_much_is_stored_and_does_nothing_twice() {
    let db = test_database().await;
    let store = db.migrated().await;
    let last = u64::from(MANY.unsigned_abs());
    let made = NewWebhook { cursor_results: last, ..new() };
    let id = store.create_webhook(&made, &operator()).await.unwrap().unwrap().webhook_id;
    ended(&db, id).await;
    let pending = async || {
        let sql = "SELECT count(*), max(created_at) FROM webhook_deliveries
                   WHERE state = 'pending' AND attempts = 0 AND next_at IS NULL AND ended_at IS NULL AND sequence > 1";
        let read = sqlx::query_as::<_, (i64, Option<OffsetDateTime>)>(sql);
        read.fetch_one(&mut db.operator().await).await.unwrap()
    };
    assert_eq!(store.replay(id, Source::Results, 2, &operator()).await, Ok(Some(last - 1)));
    let first = pending().await;
    assert_eq!(first.0, i64::from(MANY) - 1);
    assert_eq!(store.webhook(id).await.unwrap().unwrap().cursor_results, 1);
    assert_eq!(store.replay(id, Source::Results, 2, &operator()).await, Ok(Some(last - 1)));
    assert_eq!(pending().await, first, "what the first did the second leaves");
    store.enqueue(id, Source::Results, 1, last, &[]).await.unwrap();
    for sequence in 2..4 {
        let next = claim(&store).await;
        assert_eq!(sequences(&next), [sequence]);
        store.delivered(&next[0]).await.unwrap();
    }
    db.drop().await;
}

#[tokio::test]
async fn what_is_added_while_the_last_of_its_key_ends_is_due() {
    let db = test_database().await;
    let store = db.migrated().await;
    let id = webhook(&store).await.webhook_id;
    store.enqueue(id, Source::Results, 0, 1, &[row(1, "a")]).await.unwrap();
    for sequence in 2..40 {
        let last = claim(&store).await;
        assert_eq!(sequences(&last), [sequence - 1]);
        let rows = [row(sequence, "a")];
        let (ended, added) =
            tokio::join!(store.delivered(&last[0]), store.enqueue(id, Source::Results, sequence - 1, sequence, &rows));
        assert_eq!((ended, added), (Ok(true), Ok(Some(sequence))));
    }
    db.drop().await;
}
