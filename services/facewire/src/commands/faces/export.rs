//! `facewire faces export`: everybody and every face of a collection as lines of JSON, into a file at once, or by a job that keeps them
//! for the API. What a line is, the gallery says.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use facewire_composition::Config;
use facewire_domain::{CollectionId, ExportParams, JobKind};
use facewire_gallery::export::{Export, Page, Place, Sum};
use facewire_store_pg::Store;
use indicatif::HumanCount;
use serde_json::json;

use crate::cli::ExportFaces;
use crate::commands::connect;
use crate::output::{self, Exit};

pub(super) async fn run(config: &Config, args: &ExportFaces) -> anyhow::Result<Exit> {
    let start = &args.start;
    let Some(file) = args.out.as_ref().filter(|_| !args.queue) else {
        return super::start(config, JobKind::Export, &ExportParams { vectors: args.vectors }, start, start.waiting)
            .await;
    };
    let store = connect::postgres(config).await?;
    store.check_schema().await?;
    let export = Export { collection: start.collection.clone(), vectors: args.vectors };
    exists(&store, &export.collection).await?;
    let sum = write(&store, &export, file).await?;
    if start.json {
        output::json(&json!({ "persons": sum.persons, "faces": sum.faces, "file": file.display().to_string() }))?;
    } else {
        let (persons, faces) = (HumanCount(sum.persons), HumanCount(sum.faces));
        output::line(format_args!("{persons} persons and {faces} faces are in {}", file.display()));
    }
    Ok(Exit::Success)
}

async fn exists(store: &Store, collection: &CollectionId) -> anyhow::Result<()> {
    if store.collection(collection).await?.is_none() {
        bail!("there is no collection {collection}");
    }
    Ok(())
}

/// Writes into a file that is not there yet, for its owner alone: it holds biometric data.
async fn write(store: &Store, export: &Export, file: &Path) -> anyhow::Result<Sum> {
    let at = || format!("{} cannot be written", file.display());
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut out = BufWriter::new(open.with_context(at)?);
    let mut place = Place::default();
    while let Some(Page { lines, next }) = export.page(store, &place).await? {
        for line in &lines {
            out.write_all(&line.text()?).with_context(at)?;
        }
        place = next;
    }
    let file = out.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(at)?;
    file.sync_all().with_context(at)?;
    Ok(place.sum())
}
