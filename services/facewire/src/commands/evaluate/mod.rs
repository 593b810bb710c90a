//! `facewire evaluate`: how good the chain is on pictures whose truth is known, by the code that the services run. What is
//! computed from scores is the evaluation crate's; here are the pictures, the options and what is shown.

mod cache;
pub(super) mod compare;
mod configured;
pub(super) mod data;
mod enrolled;
mod features;
pub(super) mod identify;
pub(super) mod seen;
pub(super) mod show;
pub(super) mod signals;
pub(super) mod work;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use facewire_artifacts::FetchOptions;
use facewire_assess::Rules;
use facewire_composition::Config;
use facewire_composition::models::{self, Loaded};
use facewire_domain::{Calibration, Gate, GateLimits, ImageHash, Intent, Signal};
use facewire_evaluation::datasets::BinSet;
use facewire_evaluation::report::{self, Acquisition, DataSet, Model};
use facewire_evaluation::{Rate, Report, Resampling};
use facewire_inference::{PackManifest, SessionOptions};
use facewire_runtime::Shutdown;
use facewire_vision::Camera;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::progress;
use crate::cli::{Evaluate, GateSwitch};
use crate::output::{self, Exit};
use crate::signals as process_signals;

use cache::Cache;
use compare::Groups;
use data::{Data, Faces, Pairs};
use identify::{Experiment, Judging};
use seen::{Seen, Standard};
use work::{Picture, Sights, Source, Worker};

/// Version of what decides what is seen of a picture, besides the models and the rules: raise it when finding, judging,
/// aligning, measuring or embedding changes, or the layout of a record.
const CHAIN: u32 = 5;
/// Nothing is taken over from another release.
const RELEASE: &str = env!("CARGO_PKG_VERSION");
/// The folder of what was seen, in the cache directory.
const FOLDER: &str = "evaluate";
/// Why the evaluation is shown alone.
const NO_REPORT: &str = "the report cannot be written";
/// Photos to enrol are published by this alone.
pub(super) const CLEAN: &[Camera] = &[Camera::Clean];

pub(crate) async fn run(config: Config, args: Evaluate) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new(config.shutdown.grace);
    process_signals::listen(shutdown.clone())?;
    writable(&args)?;
    let (args, data) = tokio::task::spawn_blocking(move || Data::read(&args).map(|data| (args, data))).await??;
    let models = load(&config, &shutdown).await?;
    let work = move || {
        let found = evaluate(&config, &args, &models, data, &|| shutdown.is_draining())?;
        anyhow::Ok((args, found))
    };
    let (args, (report, features)) = tokio::task::spawn_blocking(work).await??;
    let page = args.report.as_ref().map_or(Ok(()), |path| {
        report::write_whole(path, &report::html(&report)).context(NO_REPORT)?;
        output::say(format_args!("the report is {}", path.display()));
        anyhow::Ok(())
    });
    // What was found is shown also where a file of it cannot be written.
    if args.json {
        output::json(&report)?
    } else {
        show::show(&report)
    }
    features?;
    page?;
    Ok(Exit::Success)
}

/// The models, unless a signal comes first: a pack that is fetched takes as long as the network does.
pub(super) async fn load(config: &Config, shutdown: &Shutdown) -> anyhow::Result<Loaded> {
    tokio::select! {
        biased;
        () = shutdown.draining() => bail!("stopped before the end"),
        loaded = models::load(&config.models, progress::fetching(std::io::stderr().is_terminal())) => loaded,
    }
}

/// Said before the work and not after it.
fn writable(args: &Evaluate) -> anyhow::Result<()> {
    for path in [&args.report, &args.features].into_iter().flatten() {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            bail!("{} cannot be written: there is no folder {}", path.display(), folder.display());
        }
    }
    if let Some(path) = &args.report {
        report::check_writable(path).context(NO_REPORT)?;
    }
    args.features.as_ref().map_or(Ok(()), |path| features::check_writable(path))
}

/// What was found, and whether the signals and answers could be written. Blocks for as long as it takes.
fn evaluate(
    config: &Config,
    args: &Evaluate,
    models: &Loaded,
    data: Data,
    stop: &(dyn Fn() -> bool + Sync),
) -> anyhow::Result<(Report, anyhow::Result<()>)> {
    let look = Look { config, models, cache: folder(args.no_cache, args.cache.as_ref())?, stop };
    let base = Report {
        title: "Facewire evaluation".to_owned(),
        created: OffsetDateTime::now_utc().format(&Rfc3339).ok(),
        data_set: DataSet { name: name(args), ..DataSet::default() },
        model: Model {
            name: models.pack.manifest().name.clone(),
            fingerprint: models.pack.fingerprint(),
            dim: models.pack.manifest().dim(),
        },
        gate: args.gate == GateSwitch::On,
        notes: vec![
            "Each vector is normalised before a face and its mirror image are added, where the pack does so."
                .to_owned(),
        ],
        ..Report::default()
    };
    match data {
        Data::Faces(faces) => open_set(&look, args, &faces, base),
        Data::Pairs(pairs) => Ok((pairs_of(&look, args, &pairs, base)?, Ok(()))),
        Data::Bin(set) => Ok((bin(&look, args, set, base)?, Ok(()))),
    }
}

/// Where what was seen is kept; `None`: nowhere.
pub(super) fn folder(nowhere: bool, named: Option<&PathBuf>) -> anyhow::Result<Option<PathBuf>> {
    match named {
        _ if nowhere => Ok(None),
        Some(folder) => Ok(Some(folder.clone())),
        None => Ok(Some(FetchOptions::default().cache_dir()?.join(FOLDER))),
    }
}

/// Of the folder or file that is evaluated.
fn name(args: &Evaluate) -> String {
    let path = args.bin.as_ref().or(args.pairs.as_ref()).or(args.faces.as_ref());
    path.and_then(|path| path.file_name()).map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// How pictures are looked at.
pub(super) struct Look<'a> {
    pub(super) config: &'a Config,
    pub(super) models: &'a Loaded,
    /// Where what was seen is kept.
    pub(super) cache: Option<PathBuf>,
    pub(super) stop: &'a (dyn Fn() -> bool + Sync),
}

impl Look<'_> {
    pub(super) fn at(&self, sources: &[Source]) -> anyhow::Result<Sights> {
        let rules = rules(self.config);
        let cache = self.cache.as_ref().map(|folder| open_cache(self.models, &rules, folder)).transpose()?;
        if let Some(cache) = cache.as_ref().filter(|cache| cache.len() > 0) {
            let (known, path) = (cache.len(), cache.path().display());
            output::say(format_args!("{known} pictures are known from earlier runs, in {path}"));
        }
        let mut workers = Worker::open(self.models, threads().min(sources.len()))?;
        let bar = progress::bar(sources.iter().map(|source| source.cameras.len() as u64).sum(), "look");
        let sights = work::see(&mut workers, sources, &rules, cache, self.stop, &bar);
        bar.finish_and_clear();
        sights
    }

    /// The gate's as it is configured, for pictures of that intent by a camera without a gate of its own.
    fn standard(&self, intent: Intent) -> Standard {
        let limits = self.config.quality.gate().limits_for(work::COLLECTION, "", intent);
        Standard { limits, model: self.models.pack.manifest().score.clone() }
    }
}

/// The services' rules without a limit: the gate is applied to what was measured.
pub(super) fn rules(config: &Config) -> Rules {
    Rules { gate: Gate::new(GateLimits::OFF, &HashMap::new()), ..config.quality.rules(None) }
}

fn open_cache(models: &Loaded, rules: &Rules, folder: &Path) -> anyhow::Result<Cache> {
    let dim = models.pack.manifest().dim();
    let cache = Cache::open(folder, &models.pack.fingerprint(), &chain(models, rules)?, dim);
    cache.with_context(|| format!("cannot use {}: --no-cache goes on without", folder.display()))
}

#[cfg(feature = "local")]
/// Looking alone, for a measurement of it: models that are open, files, and a folder for the cache of each turn.
pub(super) struct Looking<'a> {
    models: &'a Loaded,
    rules: &'a Rules,
    workers: Vec<Worker>,
    sources: Vec<Source>,
}

#[cfg(feature = "local")]
impl<'a> Looking<'a> {
    pub(super) fn new(models: &'a Loaded, rules: &'a Rules, files: &[PathBuf]) -> anyhow::Result<Self> {
        let source = |file: &PathBuf| Source { picture: Picture::File(file.clone()), cameras: CLEAN };
        let workers = Worker::open(models, threads())?;
        Ok(Self { models, rules, workers, sources: files.iter().map(source).collect() })
    }

    /// Looks at every file, as a run with an empty cache does.
    pub(super) fn look(&mut self, folder: &Path) -> anyhow::Result<()> {
        let cache = open_cache(self.models, self.rules, folder)?;
        let bar = progress::bar(self.sources.len() as u64, "look");
        work::see(&mut self.workers, &self.sources, self.rules, Some(cache), &|| false, &bar)?;
        bar.finish_and_clear();
        Ok(())
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// Everything that decides what is seen of a picture.
fn chain(models: &Loaded, rules: &Rules) -> anyhow::Result<ImageHash> {
    let manifest = models.pack.manifest();
    // What similarities and signals mean is no part of what is seen.
    let bare = PackManifest { calibration: None, score: None, published: Vec::new(), ..manifest.clone() };
    let text = bare.to_toml().map_err(anyhow::Error::msg)?;
    let (signals, fingerprint) = (Signal::ALL.map(Signal::name), models.pack.fingerprint());
    // A pack of one fingerprint gives other numbers on another device, as pixels, and by another library.
    let SessionOptions { provider, graph_input, .. } = models.session;
    let ran = format!("{provider} {graph_input:?} {}", models.runtime.build());
    let all = format!("{CHAIN} {RELEASE}\n{fingerprint}\n{text}\n{rules:?}\n{signals:?}\n{ran}");
    Ok(ImageHash::of(all.as_bytes()))
}

fn resampling(args: &Evaluate) -> Resampling {
    Resampling { seed: args.seed, ..Resampling::default() }
}

/// Images that are not used, and why.
fn acquisition<'a>(seen: impl Iterator<Item = &'a Seen>, standard: &Standard) -> Acquisition {
    let (mut images, mut reasons) = (0, BTreeMap::new());
    for seen in seen {
        images += 1;
        if let Some(reason) = seen.reason(standard) {
            *reasons.entry(reason).or_insert(0) += 1;
        }
    }
    Acquisition { failures: Rate::of_errors(reasons.values().sum(), images), reasons }
}

fn open_set(look: &Look, args: &Evaluate, faces: &Faces, base: Report) -> anyhow::Result<(Report, anyhow::Result<()>)> {
    // Said before the work and not after it.
    let groups = args.attributes.as_ref().map(|table| Groups::read(faces, table)).transpose()?;
    let cameras = if args.cameras { &Camera::ALL[..] } else { CLEAN };
    let mut sources: Vec<Source> =
        faces.files.iter().map(|file| Source { picture: Picture::File(file.clone()), cameras }).collect();
    for photo in faces.people.iter().flat_map(|person| &person.gallery) {
        sources.get_mut(*photo).into_iter().for_each(|source| source.cameras = CLEAN);
    }
    let sights = look.at(&sources)?;
    let manifest = look.models.pack.manifest();
    let calibration = manifest.calibration.as_ref();
    let judging = Judging {
        probe: look.standard(Intent::Recognize),
        enrol: look.standard(Intent::Enroll),
        gate: base.gate,
        margin: configured::margin(&look.config.matching, calibration),
    };
    let dim = manifest.dim();
    let experiment = Experiment::of((faces, &sights), cameras, judging, dim, args.exemplars())?;
    let mut report = base;
    let everything = sights.iter().flatten().map(Arc::as_ref);
    let standard = if report.gate { look.standard(Intent::Recognize) } else { Standard::OPEN };
    report.acquisition = Some(acquisition(everything.clone(), &standard));
    report.data_set = DataSet {
        kind: format!(
            "open set, {} photos of each of {} people to enrol, {} strangers, cameras: {}, compared with {}",
            args.enroll,
            faces.people.len(),
            faces.strangers.len(),
            cameras.iter().map(|camera| camera.name()).collect::<Vec<_>>().join(", "),
            compared_with(args.exemplars())
        ),
        images: everything.count() as u64,
        people: Some((faces.people.len() + faces.strangers.len()) as u64),
        ..report.data_set
    };
    let operating = measure(&experiment, args, &standard, calibration, groups.as_ref(), &mut report)?;
    report.notes.extend(configured::otherwise(&look.config.matching, args));
    let written: anyhow::Result<()> = args.features.as_ref().map_or(Ok(()), |path| {
        features::write(&experiment, operating, path)?;
        output::say(format_args!("signals and answers are in {}", path.display()));
        Ok(())
    });
    Ok((report, written))
}

/// What of a person is in the gallery.
fn compared_with(exemplars: Option<usize>) -> String {
    match exemplars {
        Some(count) => format!("up to {count} exemplars of each person"),
        None => "all faces".to_owned(),
    }
}

/// Everything that scores and signals tell of an open set. The threshold that is applied, if one is.
fn measure(
    experiment: &Experiment,
    args: &Evaluate,
    standard: &Standard,
    calibration: Option<&Calibration>,
    groups: Option<&Groups>,
    report: &mut Report,
) -> anyhow::Result<Option<f32>> {
    let (rows, free) = (compare::Rows::new(experiment, standard)?, compare::Rows::new(experiment, &Standard::OPEN)?);
    let (pairs, scores) = compare::rates(rows.compare()?, resampling(args))?;
    report.pairs = Some(pairs);
    report.notes.push("All against all: the clean photos of everybody, enrolled or not.".to_owned());
    report.notes.extend(rows.left_out.note());
    let operating = experiment.operating(args.threshold, calibration, args.fpir)?;
    match &operating {
        Some(found) => report.notes.push(format!("Threshold applied: {:.4} ({}).", found.threshold, found.how)),
        None => report.notes.push(
            "No threshold is applied: the pack has no calibration and there are no strangers to measure with; give --threshold."
                .to_owned(),
        ),
    }
    let operating = operating.map(|found| found.threshold);
    if let Some(threshold) = operating {
        report.open_sets = experiment.rates(threshold, args.fpir, resampling(args))?;
        report.gates = experiment.effects(threshold)?;
        report.limits = signals::limits(experiment, threshold)?;
    }
    report.discard = signals::discard(experiment, &free, operating)?;
    if let Some(groups) = groups {
        let (subgroups, sets) = compare::groups(experiment, &rows, &scores, groups, operating, resampling(args))?;
        report.subgroups = subgroups;
        report.open_sets.extend(sets);
        report.notes.extend(groups.note.clone());
    }
    Ok(operating)
}

fn pairs_of(look: &Look, args: &Evaluate, list: &Pairs, mut report: Report) -> anyhow::Result<Report> {
    let source = |file: &PathBuf| Source { picture: Picture::File(file.clone()), cameras: CLEAN };
    let sights = look.at(&list.files.iter().map(source).collect::<Vec<_>>())?;
    let standard = if report.gate { look.standard(Intent::Recognize) } else { Standard::OPEN };
    let pair = |(a, b, same): &(usize, usize, bool)| {
        Some((identify::clean(&sights, *a)?, identify::clean(&sights, *b)?, *same))
    };
    let people = compare::people_of(list);
    let pairs = list.pairs.iter().filter_map(pair);
    let (verification, rates) = compare::verify(pairs, &standard, people.as_deref(), resampling(args))?;
    report.data_set = DataSet {
        kind: if list.named { "LFW's list of pairs" } else { "list of pairs" }.to_owned(),
        images: list.files.len() as u64,
        pairs: Some(list.pairs.len() as u64),
        ..report.data_set
    };
    report.acquisition = Some(acquisition(sights.iter().flatten().map(Arc::as_ref), &standard));
    (report.verification, report.pairs) = (verification, Some(rates));
    report.notes.push("The tables of pairs are of the list's own pairs.".to_owned());
    Ok(report)
}

fn bin(look: &Look, args: &Evaluate, set: BinSet, mut report: Report) -> anyhow::Result<Report> {
    let set = Arc::new(set);
    let source = |image| Source { picture: Picture::Aligned(Arc::clone(&set), image), cameras: CLEAN };
    let sights = look.at(&(0..set.images()).map(source).collect::<Vec<_>>())?;
    let pair = |(number, same): (usize, &bool)| {
        Some((identify::clean(&sights, number * 2)?, identify::clean(&sights, number * 2 + 1)?, *same))
    };
    let pairs = set.same().iter().enumerate().filter_map(pair);
    let (verification, rates) = compare::verify(pairs, &Standard::OPEN, None, resampling(args))?;
    report.data_set = DataSet {
        kind: "aligned faces in pairs".to_owned(),
        images: set.images() as u64,
        pairs: Some(set.same().len() as u64),
        ..report.data_set
    };
    report.gate = false;
    report.acquisition = Some(acquisition(sights.iter().flatten().map(Arc::as_ref), &Standard::OPEN));
    (report.verification, report.pairs) = (verification, Some(rates));
    report.notes.push(
        "The faces were aligned by whoever made the set: they are embedded as they are, nothing is found, measured or judged."
            .to_owned(),
    );
    report.notes.push("Images that are bare pixels are taken as RGB; the file does not say.".to_owned());
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_ends_the_fetching_of_models() {
        let config = Config::default();
        let shutdown = Shutdown::new(config.shutdown.grace);
        shutdown.drain();
        let ended = load(&config, &shutdown).await.err().unwrap();
        assert_eq!(ended.to_string(), "stopped before the end");
    }
}
