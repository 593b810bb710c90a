//! `facewire faces clusters|label|split|undo`: clusters of faces that are nobody's, and what is made of them by hand.
//! What each means stands in the gallery.

use anyhow::{Context, bail};
use comfy_table::CellAlignment;
use facewire_composition::Config;
use facewire_domain::{CollectionId, FaceId, PersonId};
use facewire_gallery::{Division, SPLIT_FACES, SplitPart};
use facewire_store_pg::{Actor, ClusterRecord, LabelOutcome, LabelTarget, Labelled};
use indicatif::HumanCount;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::cli::{LabelCluster, ListClusters, SplitCluster, UndoAct};
use crate::commands::connect::{self, viewed};
use crate::commands::format;
use crate::output::{self, Exit};

/// Who changed it, as rows and the audit trail say.
const BY: &str = "facewire faces";

/// A cluster as JSON tells it.
#[derive(Debug, Serialize)]
struct Told<'a> {
    cluster_id: &'a str,
    collection: &'a CollectionId,
    name: &'a str,
    faces: u64,
    avg_quality: Option<f32>,
    sample_faces: &'a [FaceId],
    person_id: Option<PersonId>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl<'a> Told<'a> {
    fn of(cluster: &'a ClusterRecord) -> Self {
        Self {
            cluster_id: &cluster.public_id,
            collection: &cluster.collection,
            name: &cluster.name,
            faces: cluster.faces,
            avg_quality: cluster.avg_quality,
            sample_faces: &cluster.samples,
            person_id: cluster.person,
            created_at: cluster.created_at,
            updated_at: cluster.updated_at,
        }
    }
}

#[derive(Debug, Serialize)]
struct Page<'a> {
    clusters: Vec<Told<'a>>,
    page: u32,
    page_size: u32,
    /// On all pages.
    total: u64,
}

#[derive(Debug, Serialize)]
struct Parts<'a> {
    /// The cluster that was split.
    cluster_id: &'a str,
    /// None: it does not fall apart, or in a dry run.
    new_clusters: Vec<Told<'a>>,
    /// In a dry run: into what it would be split.
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<Vec<Value>>,
    act_id: Option<Uuid>,
    dry_run: bool,
}

pub(super) async fn list(config: &Config, args: &ListClusters) -> anyhow::Result<Exit> {
    let store = connect::postgres(config).await?;
    store.check_schema().await?;
    let collection = &args.on.collection;
    let page = store.clusters_page(collection, args.labelled, args.page, args.page_size).await;
    let (clusters, total) = viewed(page)?;
    if args.on.json {
        let clusters = clusters.iter().map(Told::of).collect();
        output::json(&Page { clusters, page: args.page, page_size: args.page_size, total })?;
        return Ok(Exit::Success);
    }
    if clusters.is_empty() {
        output::line(format_args!(
            "no cluster on page {} of {collection}; `facewire faces cluster` makes them",
            args.page
        ));
        return Ok(Exit::Success);
    }
    show(&clusters);
    let shown = clusters.len() as u64;
    if shown < total {
        output::say(format_args!("these are {shown} of {}: --page and --page-size show others", HumanCount(total)));
    }
    Ok(Exit::Success)
}

fn show(clusters: &[ClusterRecord]) {
    let mut table = output::table(&["cluster", "name", "faces", "quality", "the best faces"]);
    for cluster in clusters {
        table.add_row([
            cluster.public_id.clone(),
            cluster.name.clone(),
            HumanCount(cluster.faces).to_string(),
            cluster.avg_quality.map(|quality| format::number(f64::from(quality))).unwrap_or_default(),
            cluster.samples.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        ]);
    }
    for column in table.column_iter_mut().skip(2).take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    output::line(table);
}

pub(super) async fn label(config: &Config, args: &LabelCluster) -> anyhow::Result<Exit> {
    let gallery = connect::gallery(config).await?;
    let (cluster, collection) = (args.cluster.as_str(), &args.on.collection);
    let target = match (&args.name, &args.person) {
        (Some(name), _) => LabelTarget::Name(name),
        (None, Some(subject)) => LabelTarget::Person(PersonId::derive(collection, subject)),
        (None, None) => bail!("name the person: --name or --person"),
    };
    match gallery.label_cluster(collection, cluster, target, args.dry_run, &Actor::named(BY)).await? {
        LabelOutcome::Done(labelled) => labelled_as(args, &labelled),
        LabelOutcome::NoCluster => bail!("{}", missing(args.on.collection.as_str(), cluster)),
        LabelOutcome::NoPerson => bail!("collection {collection} has no such person"),
        LabelOutcome::AlreadyLabelled(person) => bail!(
            "{cluster} is person {person}'s already: `facewire people merge` makes one person of two, and \
             `facewire faces undo` takes a label back"
        ),
    }
}

fn labelled_as(args: &LabelCluster, labelled: &Labelled) -> anyhow::Result<Exit> {
    let (faces, refused) = (labelled.faces.len(), labelled.refused.len());
    if args.on.json {
        output::json(&json!({
            "person_id": known(labelled.person.as_uuid()),
            "person_name": labelled.person_name,
            "created": labelled.created,
            "faces": faces,
            "refused": refused,
            "prototypes": labelled.prototypes.len(),
            "act_id": known(labelled.act),
            "dry_run": args.dry_run,
        }))?;
        return Ok(Exit::Success);
    }
    let name = &labelled.person_name;
    let are = if args.dry_run { "would be" } else { "are" };
    let who = match known(labelled.person.as_uuid()) {
        Some(person) if labelled.created => format!("new: person {person}"),
        Some(person) => format!("person {person}"),
        None => "a new person".to_owned(),
    };
    output::line(format_args!("{faces} faces of {} {are} {name}'s ({who})", args.cluster));
    if refused > 0 {
        output::say(format_args!("{refused} {are} nobody's: somebody said that they are not {name}'s"));
    }
    if let Some(act) = known(labelled.act) {
        undoable(act);
    }
    Ok(Exit::Success)
}

/// An id that is there: the nil one stands for none.
fn known(id: Uuid) -> Option<Uuid> {
    Some(id).filter(|id| !id.is_nil())
}

pub(super) async fn split(config: &Config, args: &SplitCluster) -> anyhow::Result<Exit> {
    let gallery = connect::gallery(config).await?;
    let (cluster, collection) = (args.cluster.as_str(), &args.on.collection);
    let (least, by) = (args.min_cluster_size, Actor::named(BY));
    let split = match gallery.split_cluster(collection, cluster, least, args.dry_run, &by).await? {
        Division::Done(split) => split,
        Division::Preview(parts) => return preview(args, &parts),
        Division::NoCluster => bail!("{}", missing(collection.as_str(), cluster)),
        Division::Labelled(person) => {
            bail!("{cluster} is person {person}'s: `facewire people split` makes a new person of some of their faces")
        }
        Division::TooLarge(faces) => bail!(
            "{cluster} has {faces} faces, and at most {SPLIT_FACES} are split by hand: `facewire faces cluster` \
             with --leaf or another --min-samples groups them anew"
        ),
        Division::Whole => return whole(args),
    };
    if args.on.json {
        let new_clusters = split.new.iter().map(Told::of).collect();
        let (parts, act_id) = (None, Some(split.act));
        output::json(&Parts { cluster_id: cluster, new_clusters, parts, act_id, dry_run: false })?;
    } else {
        show(&split.new);
        undoable(split.act);
    }
    Ok(Exit::Success)
}

/// What would be split, and nothing is.
fn preview(args: &SplitCluster, parts: &[SplitPart]) -> anyhow::Result<Exit> {
    if args.on.json {
        return unsplit(args, parts);
    }
    let mut table = output::table(&["it would be", "faces", "the best faces"]);
    for (part, number) in parts.iter().zip(1..) {
        let samples: Vec<String> = part.samples.iter().map(ToString::to_string).collect();
        table.add_row([format!("part {number}"), HumanCount(part.faces).to_string(), samples.join("\n")]);
    }
    output::line(table);
    output::say("nothing was changed: it was a dry run");
    Ok(Exit::Success)
}

/// As JSON: nothing was split.
fn unsplit(args: &SplitCluster, parts: &[SplitPart]) -> anyhow::Result<Exit> {
    let part = |part: &SplitPart| json!({ "faces": part.faces, "sample_faces": part.samples });
    let parts = args.dry_run.then(|| parts.iter().map(part).collect());
    let (cluster_id, new_clusters, dry_run) = (args.cluster.as_str(), Vec::new(), args.dry_run);
    output::json(&Parts { cluster_id, new_clusters, parts, act_id: None, dry_run })?;
    Ok(Exit::Success)
}

/// The command did its work, and there was nothing to split.
fn whole(args: &SplitCluster) -> anyhow::Result<Exit> {
    if args.on.json {
        return unsplit(args, &[]);
    }
    let (cluster, least) = (&args.cluster, args.min_cluster_size);
    output::line(format_args!(
        "{cluster} stays as it is: it does not fall apart into clusters of {least} faces or more"
    ));
    Ok(Exit::Success)
}

pub(super) async fn undo(config: &Config, args: &UndoAct) -> anyhow::Result<Exit> {
    let gallery = connect::gallery(config).await?;
    let undone = gallery.undo(args.act, &Actor::named(BY)).await?;
    let undone = undone.with_context(|| format!("there is no act {}, or it was undone before", args.act))?;
    let faces = undone.faces.len();
    if args.json {
        let (kind, collection) = (&undone.kind, &undone.collection);
        output::json(&json!({ "act_id": args.act, "kind": kind, "collection": collection, "faces": faces }))?;
    } else {
        let (kind, collection) = (&undone.kind, &undone.collection);
        output::line(format_args!("the {kind} in {collection} is undone: {faces} faces are as before"));
    }
    Ok(Exit::Success)
}

fn missing(collection: &str, cluster: &str) -> String {
    format!("collection {collection} has no cluster {cluster}; `facewire faces clusters` lists them")
}

fn undoable(act: Uuid) {
    output::say(format_args!("`facewire faces undo {act}` takes it back"));
}
