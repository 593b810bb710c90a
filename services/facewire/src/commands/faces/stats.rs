//! `facewire faces stats`: how far the faces of each collection have become people. It counts only.

use std::collections::BTreeMap;

use anyhow::bail;
use comfy_table::CellAlignment;
use facewire_composition::Config;
use facewire_domain::CollectionId;
use facewire_store_pg::{FaceStats, Store};
use indicatif::HumanCount;
use serde_json::json;

use crate::cli::CountFaces;
use crate::commands::connect::{self, viewed};
use crate::commands::stats;
use crate::output::{self, Exit};

/// Collections beside each other in a table: about a terminal's width.
const BESIDE: usize = 6;

pub(super) async fn run(config: &Config, args: &CountFaces) -> anyhow::Result<Exit> {
    let store = connect::postgres(config).await?;
    store.check_schema().await?;
    let mut counted = Vec::new();
    for collection in collections(&store, args.collection.as_ref()).await? {
        let stats = viewed(store.face_stats(Some(&collection)).await)?;
        counted.push((collection, stats));
    }
    if args.json {
        let by_name: BTreeMap<&str, &FaceStats> = counted.iter().map(|(name, stats)| (name.as_str(), stats)).collect();
        output::json(&json!({ "collections": by_name }))?;
    } else if counted.is_empty() {
        output::line("there is no collection yet");
    } else {
        counted.chunks(BESIDE).for_each(show);
    }
    Ok(Exit::Success)
}

/// The one that is asked about, or all.
async fn collections(store: &Store, asked: Option<&CollectionId>) -> anyhow::Result<Vec<CollectionId>> {
    if let Some(collection) = asked {
        if store.collection(collection).await?.is_none() {
            bail!("there is no collection {collection}");
        }
        return Ok(vec![collection.clone()]);
    }
    stats::collections(store).await
}

/// A column for each collection: there are more counts than collections.
fn show(counted: &[(CollectionId, FaceStats)]) {
    let header: Vec<&str> = std::iter::once("").chain(counted.iter().map(|(name, _)| name.as_str())).collect();
    let mut table = output::table(&header);
    for (what, count) in ROWS {
        let number = |(_, stats): &(CollectionId, FaceStats)| {
            let about = if stats.gallery.exact { "" } else { "about " };
            format!("{about}{}", HumanCount(count(stats)))
        };
        table.add_row(std::iter::once(what.to_owned()).chain(counted.iter().map(number)));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    output::line(table);
}

type Count = fn(&FaceStats) -> u64;

const ROWS: [(&str, Count); 12] = [
    ("faces", |stats| stats.gallery.faces),
    ("  being indexed", |stats| stats.gallery.pending),
    ("  being removed", |stats| stats.gallery.tombstoned),
    ("  without a person", |stats| stats.without_person),
    ("    in a cluster", |stats| stats.clustered),
    ("    in no cluster (noise)", |stats| stats.noise),
    ("    not looked at yet", unseen),
    ("clusters without a person", |stats| stats.clusters),
    ("clusters with a person", |stats| stats.labelled),
    ("people", |stats| stats.gallery.persons),
    ("  exemplars", |stats| stats.exemplars),
    ("  centroids", |stats| stats.centroids),
];

/// Faces that no clustering has looked at. Of estimates it may be off.
fn unseen(stats: &FaceStats) -> u64 {
    stats.without_person.saturating_sub(stats.clustered).saturating_sub(stats.noise)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faces_that_nobody_looked_at_are_what_is_left() {
        let stats = FaceStats { without_person: 10, clustered: 6, noise: 3, ..FaceStats::default() };
        assert_eq!(unseen(&stats), 1);
        assert_eq!(unseen(&FaceStats { noise: 5, ..stats }), 0, "estimates do not add up");
    }
}
