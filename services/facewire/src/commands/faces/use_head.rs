//! `facewire faces use-head`: the gallery behind a projection head, or back, from stored embeddings. The reconciler keeps the order of
//! things; here the head is read, judged and put where services find it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use facewire_composition::models::{self, Loaded};
use facewire_composition::{Config, Models, heads};
use facewire_domain::HeadState;
use facewire_inference::{Head, HeadFile};
use facewire_reconciler::{Reconciler, ReembedOptions, Reembedded};
use facewire_store_pg::{Actor, HeadRecord, Store};
use indicatif::HumanCount;
use serde::Serialize;
use uuid::Uuid;

use crate::cli::UseHead;
use crate::commands::{connect, progress};
use crate::output::{self, Exit};

/// What the audit trail calls this command.
const BY: &str = "facewire faces use-head";

/// Heads that are looked through for the one that serves: the newest.
const MOST: u32 = 1000;

#[derive(Debug, Serialize)]
struct Report {
    /// The model that serves now, or that was projected to.
    model: String,
    /// What `models.head` has to be; `None`: nothing.
    head: Option<String>,
    /// It serves now.
    switched: bool,
    #[serde(flatten)]
    done: Reembedded,
}

/// What the fingerprint of a head that is not trained yet is called: nobody has measured it.
const UNTRAINED: &str = "not trained yet";

pub(super) async fn run(config: &Config, args: &UseHead) -> anyhow::Result<Exit> {
    let (config, reconciler) = opened(config).await?;
    let report = match &args.head {
        Some(named) => through(&config, &reconciler, args, named).await?,
        None => back(&config, &reconciler, args).await?,
    };
    if args.json {
        output::json(&report)?;
    } else {
        show(&report);
    }
    Ok(Exit::Success)
}

/// Whichever side of a switch is configured, the pack is the same.
async fn opened(config: &Config) -> anyhow::Result<(Config, Reconciler)> {
    let config = Config { models: Models { head: None, ..config.models.clone() }, ..config.clone() };
    let parts = connect::unchecked(&config, "use-head").await?;
    let reconciler = heads::reconciler(&config, &parts).await?;
    Ok((config, reconciler))
}

/// Refuses to train a head that is to be used at once where nothing will say what a match needs behind it: that is found out only
/// once there is a head to measure.
pub(super) async fn applicable(config: &Config) -> anyhow::Result<()> {
    let (config, reconciler) = opened(config).await?;
    let Some(places) = heads::ruling(&config, &reconciler.gallery, UNTRAINED, None).await?.missing() else {
        return Ok(());
    };
    bail!(
        "nothing will say what a match needs behind the head in {places}: thresholds are of one model, and this one is still to be \
         measured. Train it without --apply; then `facewire faces use-head HEAD_ID --project-only`, for each collection `facewire \
         calibrate --head FINGERPRINT --corrections --collection C --apply` (or --faces DIR in place of --corrections), and `facewire \
         faces use-head HEAD_ID`. Or set a fixed threshold: match.threshold, or match.collections.C.threshold. No job was started"
    )
}

async fn through(config: &Config, reconciler: &Reconciler, args: &UseHead, named: &str) -> anyhow::Result<Report> {
    let store = &reconciler.gallery.store;
    let loaded = models::load(&config.models, progress::fetching(false)).await?;
    let file = read(store, &loaded, args, named).await?;
    let pack = loaded.pack.clone().with_head(file.clone())?;
    let (model, dim, head) =
        (pack.fingerprint(), u32::try_from(pack.manifest().dim())?, file.spec().fingerprint.clone());
    if model == reconciler.gallery.model {
        return finish(reconciler, args, model, Some(head)).await;
    }
    let place = install(&config.models, file.clone()).await?;
    if !args.project_only {
        calibrated(config, reconciler, &model, &head).await?;
    }
    let embedder = heads::FromRaw::through(store.clone(), loaded.pack.fingerprint(), open(&loaded, file).await?);
    let options = ReembedOptions { model: model.clone(), dim, batch: args.batch, leave_behind: args.leave_behind };
    let bar = progress::bar(store.count_faces().await?, "projected");
    let count = |count| bar.set_position(count);
    let done = if args.project_only {
        reconciler.embed_beside(&options, &embedder, args.patience, &count).await
    } else {
        reconciler.reembed(&options, &embedder, args.patience, &count).await
    };
    bar.finish_and_clear();
    let (done, switched) = (done?, !args.project_only);
    if switched {
        serving(store, Some(&head), args.force).await?;
    }
    output::say(format_args!("the head is in {}", place.display()));
    Ok(Report { model, head: Some(head), switched, done })
}

async fn back(config: &Config, reconciler: &Reconciler, args: &UseHead) -> anyhow::Result<Report> {
    let store = &reconciler.gallery.store;
    let manifest = models::manifest(&config.models)?;
    let (model, dim) = (manifest.fingerprint(), u32::try_from(manifest.dim())?);
    if model == reconciler.gallery.model {
        return finish(reconciler, args, model, None).await;
    }
    let ruling = heads::ruling(config, &reconciler.gallery, &model, manifest.calibration).await?;
    ruling.warning().into_iter().for_each(output::say);
    if let Some(places) = ruling.missing() {
        output::say(format_args!(
            "nothing says what a match needs without the head in {places}: `facewire calibrate --faces DIR --collection C --apply`, or \
             set match.threshold, before the services start"
        ));
    }
    let embedder = heads::FromRaw::back(store.clone(), model.clone());
    let options = ReembedOptions { model: model.clone(), dim, batch: args.batch, leave_behind: args.leave_behind };
    let bar = progress::bar(store.count_faces().await?, "brought back");
    let done = reconciler.reembed(&options, &embedder, args.patience, &|count| bar.set_position(count)).await;
    bar.finish_and_clear();
    let done = done?;
    serving(store, None, false).await?;
    Ok(Report { model, head: None, switched: true, done })
}

/// A file as it is; of a head by its id only one that the verdict accepted, unless forced.
async fn read(store: &Store, loaded: &Loaded, args: &UseHead, named: &str) -> anyhow::Result<HeadFile> {
    let Ok(id) = Uuid::parse_str(named) else {
        let path = PathBuf::from(named);
        return Ok(tokio::task::spawn_blocking(move || HeadFile::read(&path)).await??);
    };
    let missing = || format!("there is no head {id}; `facewire faces heads` lists all");
    let record = store.head(id).await?.with_context(missing)?;
    let pack = loaded.pack.fingerprint();
    if record.model != pack {
        bail!("the head {id} is of {}, and the configured pack is {pack}", record.model);
    }
    // The verdict, and not the state: a head that was forced once is retired later.
    let accepted = record.verdict.as_ref().and_then(|verdict| verdict.get("accepted")?.as_bool()) == Some(true);
    if !accepted && !args.force {
        bail!(
            "the head {id} is {}: no gain of it is certain. `facewire faces heads` shows the numbers; --force uses it all the same",
            record.state
        );
    }
    let onnx = store.head_onnx(id).await?.with_context(missing)?;
    Ok(HeadFile::of(Path::new(named), onnx)?)
}

/// Puts a head where `models.head` finds it by its fingerprint.
async fn install(models: &Models, file: HeadFile) -> anyhow::Result<PathBuf> {
    let place = models::head_path(models, &file.spec().fingerprint)?;
    let written = place.clone();
    let write = move || -> std::io::Result<()> {
        if let Some(directory) = written.parent() {
            std::fs::create_dir_all(directory)?;
        }
        // Whole or not at all: a service may be about to read it.
        let part = written.with_extension("part");
        std::fs::write(&part, file.bytes())?;
        std::fs::rename(&part, &written)
    };
    tokio::task::spawn_blocking(write).await?.with_context(|| {
        format!("cannot write {}; name another place for packs in models.directory", place.display())
    })?;
    Ok(place)
}

/// Blocks on a thread of its own: a trial run belongs to it.
async fn open(loaded: &Loaded, file: HeadFile) -> anyhow::Result<Head> {
    let (runtime, session) = (loaded.runtime.clone(), loaded.session);
    Ok(tokio::task::spawn_blocking(move || file.open(&runtime, &session)).await??)
}

/// Refuses a switch after which no probe of some collection could be judged; says where a fixed similarity would judge.
async fn calibrated(config: &Config, reconciler: &Reconciler, model: &str, head: &str) -> anyhow::Result<()> {
    let ruling = heads::ruling(config, &reconciler.gallery, model, None).await?;
    let Some(places) = ruling.missing() else {
        ruling.warning().into_iter().for_each(output::say);
        return Ok(());
    };
    bail!(
        "nothing says what a match needs behind this head in {places}: thresholds are of one model. Measure them for each collection with \
         `facewire calibrate --head {head} --faces DIR --collection C --apply`; or from what people corrected, with `facewire faces \
         use-head FILE --project-only` and then `facewire calibrate --head {head} --corrections --collection C --apply`; or set \
         match.threshold. Nothing was switched"
    )
}

/// Finishes a switch that was interrupted after the model that was asked for came to serve: the index, its last embeddings, and the
/// list of heads. Fails where nothing was left of one.
async fn finish(
    reconciler: &Reconciler,
    args: &UseHead,
    model: String,
    head: Option<String>,
) -> anyhow::Result<Report> {
    let done = reconciler.finish_reembed(args.batch, args.patience).await?;
    let changed = serving(&reconciler.gallery.store, head.as_deref(), args.force).await?;
    match head {
        _ if changed || !done.is_nothing() => Ok(Report { model, head, switched: true, done }),
        Some(_) => bail!("{model} serves already"),
        None => bail!("no head serves: the gallery is of {model} itself"),
    }
}

/// Says in the list of heads which one serves: one of this fingerprint, or none. Whether that was something new.
async fn serving(store: &Store, fingerprint: Option<&str>, forced: bool) -> anyhow::Result<bool> {
    let (heads, actor) = (store.heads(None, None, MOST).await?, Actor::named(BY));
    let fits = |head: &&HeadRecord| fingerprint.is_some_and(|of| head.fingerprint.starts_with(of));
    let serves = |head: &&HeadRecord| head.state == HeadState::Serving;
    // Two of the same file: one of them serves.
    let one = heads.iter().filter(fits).find(serves).or_else(|| heads.iter().find(fits));
    let others = heads.iter().filter(serves).filter(|head| one.is_none_or(|one| one.head != head.head));
    let mut changed = false;
    for other in others {
        store.set_head_state(other.head, HeadState::Retired, false, &actor).await?;
        changed = true;
    }
    if let Some(one) = one.filter(|one| !serves(one)) {
        store.set_head_state(one.head, HeadState::Serving, forced, &actor).await?;
        changed = true;
    }
    Ok(changed)
}

/// What is left to the operator after a switch.
fn next(head: Option<&str>) -> String {
    match head {
        Some(head) => format!(
            "now set models.head = \"{head}\" and restart the services, embed-gpu first: until then nobody can be enrolled. \
             `facewire faces use-head --revert` is the way back"
        ),
        None => "now remove models.head and restart the services, embed-gpu last: until then nobody can be enrolled"
            .to_owned(),
    }
}

fn show(report: &Report) {
    let (embedded, indexed) = (HumanCount(report.done.embedded), HumanCount(report.done.indexed));
    let model = &report.model;
    if !report.switched {
        output::line(format_args!(
            "{embedded} faces have an embedding of {model} beside their own; nothing was switched"
        ));
        return missing(report);
    }
    output::line(format_args!("{embedded} faces brought to {model}; {indexed} are in the index that serves now"));
    missing(report);
    output::say(next(report.head.as_deref()));
}

fn missing(report: &Report) {
    if report.done.missing > 0 {
        let missing = HumanCount(report.done.missing);
        output::line(format_args!("of {missing} faces no embedding of the pack was kept: they were left behind"));
    }
}
