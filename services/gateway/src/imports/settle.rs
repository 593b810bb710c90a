//! How imports end: items that were sent end as their crops did, and an import ends with its last item. By the one process that
//! holds the lease, in bounded steps; whatever is done twice is done once.

use std::time::Duration;

use facewire_domain::Status;
use facewire_store_pg::{EndedItem, Import, ImportState, ItemEnding, PersonChanges, PersonUpdate, Store, StoreError};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// Items of a step.
const STEP: u32 = 1000;
/// Every so many looks all items that were sent are looked at, and not only those that were sent first.
const THOROUGH: u64 = 20;

/// Settles until it is dropped.
pub(crate) async fn settle(store: &Store) {
    for round in 0_u64.. {
        if let Err(error) = all(store, round.is_multiple_of(THOROUGH)).await {
            tracing::warn!(%error, "imports are not settled yet");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn all(store: &Store, thorough: bool) -> Result<(), StoreError> {
    for import in store.open_imports().await? {
        one(store, &import, thorough).await?;
    }
    Ok(())
}

/// Crops end about in the order in which they were sent: where none of a step has ended, none behind it is likely to have.
async fn one(store: &Store, import: &Import, thorough: bool) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let found = store.import_endings(import.import_id, after, STEP).await?;
        let is_in_vain = found.ended.is_empty() && !thorough;
        for item in &found.ended {
            describe(store, import, item).await?;
        }
        let done: Vec<(_, ItemEnding)> = found.ended.into_iter().map(|item| (item.crop, item.ending)).collect();
        store.import_crops_done(&done).await?;
        after = found.next;
        if after.is_none() || is_in_vain {
            break;
        }
    }
    if import.state == ImportState::Running {
        store.finish_import(import.import_id).await?;
    }
    Ok(())
}

/// Gives the person of an enrolled item what the item says of them, unless they are being erased. Before the item is done: so it is
/// not forgotten.
async fn describe(store: &Store, import: &Import, item: &EndedItem) -> Result<(), StoreError> {
    let is_enrolled = [Status::Enrolled, Status::AlreadyEnrolled].iter().any(|s| s.as_str() == item.ending.status);
    let Some(person) = item.person.filter(|_| is_enrolled) else { return Ok(()) };
    if item.metadata.as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok(());
    }
    let changes = PersonChanges { metadata: Some(item.metadata.clone()), ..PersonChanges::default() };
    let given = async {
        if let PersonUpdate::Merged(into) = store.update_person(person, None, &changes, &import.actor).await? {
            store.update_person(into, None, &changes, &import.actor).await?;
        }
        Ok(())
    };
    match given.await {
        // It would go with them.
        Err(StoreError::BeingErased) => Ok(()),
        given => given,
    }
}
