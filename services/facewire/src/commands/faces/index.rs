//! `facewire faces ensure-collection`: the part of `facewire migrate` that makes the vector index.

use anyhow::Context;
use facewire_composition::{Config, Parts, ensure_index};
use serde::Serialize;

use crate::cli::EnsureCollection;
use crate::output::{self, Exit};

#[derive(Debug, Serialize)]
struct Report {
    /// The collection behind the alias.
    collection: String,
    /// The fingerprint of the pack whose embeddings it holds.
    model: String,
    /// Numbers of an embedding.
    dim: u32,
    /// It was made now.
    created: bool,
    /// It holds no point: the reconciler brings all faces of Postgres.
    empty: bool,
}

pub(super) async fn run(config: &Config, args: &EnsureCollection) -> anyhow::Result<Exit> {
    let parts = Parts::stores(config).await?;
    let store = parts.store.as_ref().context("Postgres is not connected")?;
    let index = parts.index.as_ref().context("the vector index is not connected")?;
    store.check_schema().await?;
    let (model, dim) = (index.pack.fingerprint(), index.dim()?);
    let created = index.vectors.serving().await?.is_none();
    let empty = ensure_index(&parts).await?;
    let serving = index.vectors.serving().await?.context("the vector index went again at once")?;
    let report = Report { collection: serving.collection, model, dim, created, empty };
    if args.json {
        output::json(&report)?;
    } else {
        show(&report);
    }
    Ok(Exit::Success)
}

fn show(report: &Report) {
    let Report { collection, model, dim, .. } = report;
    let what = if report.created { "created" } else { "there already" };
    output::line(format_args!("the vector index of {model} ({dim} numbers) is {what}: collection {collection}"));
    if report.empty {
        output::say(
            "it is empty: the reconciler brings all faces of Postgres; `facewire faces find-orphans --fix` does it now",
        );
    }
}
