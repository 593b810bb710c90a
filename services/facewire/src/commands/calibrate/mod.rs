//! `facewire calibrate`: from a user's own labelled folders to a table of thresholds and limits of the gate, beside
//! what is in force today; or to a table from what people corrected. Pictures are looked at as `evaluate` does, with no limit;
//! what is computed from scores is the evaluation crate's.

mod corrections;
mod joined;
mod limits;
mod matching;
mod report;
mod show;
mod stored;
mod today;

use std::path::Path;

use anyhow::{Context, bail};
use facewire_composition::models::Loaded;
use facewire_composition::{Config, Models};
use facewire_domain::{CalibratedGate, Calibration, Gate, GateOverride, Intent};
use facewire_evaluation::report::OpenSetRates;
use facewire_evaluation::{OpenSet, Resampling};
use facewire_runtime::Shutdown;
use facewire_store_pg::Store;
use time::OffsetDateTime;

use super::connect;
use super::evaluate::compare::MOST;
use super::evaluate::data::{self, Choice, Faces};
use super::evaluate::identify::{Experiment, Judging};
use super::evaluate::seen::Standard;
use super::evaluate::work::{Picture, Sights, Source};
use super::evaluate::{self, CLEAN, Look};
use crate::cli::Calibrate;
use crate::output::{self, Exit};
use crate::signals as process_signals;

use report::{Crowd, Made, Report, Sample, Side};
use today::Today;

pub(crate) async fn run(config: Config, args: Calibrate) -> anyhow::Result<Exit> {
    let config = behind(config, &args);
    match (&args.revert, &args.faces) {
        _ if args.list => stored::list(&config, &args).await,
        _ if args.corrections => corrections::run(&config, &args).await,
        (Some(version), _) => stored::revert(&config, &args, version.as_deref()).await,
        (None, Some(folder)) => {
            let folder = folder.clone();
            measure(config, args, folder.as_path()).await
        }
        (None, None) => bail!("nothing to do: give --faces, --corrections, --list or --revert"),
    }
}

/// With the head that is asked for, before it serves.
fn behind(config: Config, args: &Calibrate) -> Config {
    match args.head.clone() {
        Some(head) => Config { models: Models { head: Some(head), ..config.models }, ..config },
        None => config,
    }
}

async fn measure(config: Config, args: Calibrate, folder: &Path) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new(config.shutdown.grace);
    process_signals::listen(shutdown.clone())?;
    let faces = data::select(&choice(&args, folder))?;
    let store = server(&config, &args).await?;
    let models = evaluate::load(&config, &shutdown).await?;
    let today = Today::read(&config, &args, models.pack.manifest(), store.as_ref()).await?;
    let (apply, stopping) = (args.apply, shutdown.clone());
    let work = move || {
        let cache = evaluate::folder(args.no_cache, args.cache.as_ref())?;
        let look = Look { config: &config, models: &models, cache, stop: &|| stopping.is_draining() };
        let report = calibrate(&look, &args, &faces, today)?;
        anyhow::Ok((args, report))
    };
    let (args, mut report) = tokio::task::spawn_blocking(work).await??;
    if let Some(store) = store.filter(|_| apply) {
        // A signal that came after the last picture.
        if shutdown.is_draining() {
            bail!("stopped before the calibration was put in force: nothing was changed");
        }
        stored::apply(&store, &report.made).await?;
        report.applied = true;
    }
    if args.json {
        output::json(&report)?;
    } else {
        show::show(&report);
    }
    Ok(Exit::Success)
}

/// Every photo counts: who has too few to be enrolled is still somebody else than the others.
fn choice<'a>(args: &'a Calibrate, folder: &'a Path) -> Choice<'a> {
    let enroll = args.enroll as usize;
    Choice {
        folder,
        people: None,
        enroll,
        probes: usize::MAX,
        least: enroll.saturating_add(1),
        strangers: args.strangers.as_deref(),
        singles: args.strangers_single.unwrap_or(0),
        rest: true,
    }
}

/// Postgres, where a collection is named. Without --apply it may be away.
async fn server(config: &Config, args: &Calibrate) -> anyhow::Result<Option<Store>> {
    if args.collection.is_none() {
        return Ok(None);
    }
    match connect::postgres(config).await {
        Ok(store) => Ok(Some(store)),
        Err(error) if args.apply => Err(error),
        Err(_) => {
            output::say(
                "no server answers: the enrolled faces of the folders count, and the pack and configuration are today's",
            );
            Ok(None)
        }
    }
}

/// Blocks for as long as it takes.
fn calibrate(look: &Look, args: &Calibrate, faces: &Faces, today: Today) -> anyhow::Result<Report> {
    let source = |file: &std::path::PathBuf| Source { picture: Picture::File(file.clone()), cameras: CLEAN };
    let sights = look.at(&faces.files.iter().map(source).collect::<Vec<_>>())?;
    let manifest = look.models.pack.manifest();
    let dim = manifest.dim();
    let mut before = Experiment::new((faces, &sights), CLEAN, judging(look.models, &today, &today.gate), dim)?;
    let compared = matching::compare(faces, &sights, dim, MOST)?;
    let mut notes = compared.notes.clone();
    let candidates = matching::candidates(&before)?;
    let measured = matching::unnamed(&compared, &candidates, &today, matching::any, &mut notes)?;
    let measured_to = joined::measured_to(&measured);
    let fresh = joined::moved(measured, today.shape.as_ref(), &mut notes);
    let (fpir, gallery) = (today.fpir(args), crowd(&today, &before));
    let threshold = fresh.threshold_for(fpir, gallery.faces);
    let limits = limits::proposals(&before, &today, threshold)?;
    let gate = limits::changed(&limits, &today);
    let date = OffsetDateTime::now_utc().date();
    let version = matching::version(&today, &manifest.fingerprint(), (&fresh, &gate), date)?;
    let calibration = Calibration { version, ..fresh };
    calibration.validate().map_err(anyhow::Error::msg).context("the sample makes no calibration")?;
    let after = after(look, (faces, &sights), &today, &calibration.version, gate)?;
    let asked = today.threshold(fpir, gallery.faces);
    before.judging.margin = leading(today.margin_in_force());
    let beside = asked.map(|(threshold, by)| side(&before, threshold, by)).transpose();
    let beside = beside.unwrap_or_else(|error| {
        notes.push(format!("Today cannot be shown beside it: {error:#}."));
        None
    });
    let new = side(&after, threshold, calibration.version.clone())?;
    let (collection, camera, model) = (today.collection.clone(), today.camera.clone(), manifest.fingerprint());
    let report = Report {
        made: Made { collection, camera, model, calibration, measured_to, gate },
        fpir,
        gallery,
        sample: Sample::of(faces, &sights, &compared),
        today: beside,
        new,
        limits,
        applied: false,
        notes,
    };
    Ok(report.with_notes(&today))
}

/// The same people judged with the limits that are proposed.
fn after<'a>(
    look: &Look,
    (faces, sights): (&'a Faces, &'a Sights),
    today: &Today,
    version: &str,
    limits: GateOverride,
) -> anyhow::Result<Experiment<'a>> {
    let (collection, camera) = (today.collection.clone(), today.camera.clone());
    let own = CalibratedGate { version: version.to_owned(), collection, camera, limits };
    let gates = today.elsewhere.iter().cloned().chain([own]);
    let gate = today.configured.clone().with_calibrated(gates.collect());
    let judging = judging(look.models, today, &gate);
    Experiment::new((faces, sights), CLEAN, judging, look.models.pack.manifest().dim())
}

fn judging(models: &Loaded, today: &Today, gate: &Gate) -> Judging {
    let standard =
        |intent| Standard { limits: today.limits(gate, intent), model: models.pack.manifest().score.clone() };
    let margin = leading(today.margin());
    Judging { probe: standard(Intent::Recognize), enrol: standard(Intent::Enroll), gate: true, margin }
}

/// A margin of 0 is none.
fn leading(margin: f32) -> Option<f32> {
    Some(margin).filter(|margin| *margin > 0.0)
}

/// The faces that the threshold follows from: those enrolled in the collection, else those of the folders that a probe is
/// compared with. Of who is enrolled with several photos each counts.
fn crowd(today: &Today, experiment: &Experiment) -> Crowd {
    Crowd::of(today, experiment.compared_with(experiment.judging.gate))
}

/// What becomes of the folders' people at a threshold, with the limits of that experiment.
fn side(experiment: &Experiment, threshold: f32, decided_by: String) -> anyhow::Result<Side> {
    let set: OpenSet = experiment.set(true, |_| true)?;
    let mut rates = OpenSetRates::new("", &set, &[], &[threshold], Resampling::default());
    let row = rates.table.pop().context("a threshold without rates")?;
    let gate = experiment.effects(threshold)?.into_iter().next().context("a gate without effect")?;
    Ok(Side { decided_by, row, enrolments_refused: rates.failure_to_enrol, gate })
}

#[cfg(test)]
mod tests {
    use super::matching::tests::three_photos_each;
    use super::today::tests::bare;
    use super::*;

    #[test]
    fn a_threshold_is_for_the_faces_that_are_compared() {
        let (faces, sights) = three_photos_each();
        let judging = Judging { probe: Standard::OPEN, enrol: Standard::OPEN, gate: true, margin: None };
        let experiment = Experiment::new((&faces, &sights), CLEAN, judging, 2).unwrap();
        let found = crowd(&bare(), &experiment);
        assert_eq!((found.faces, found.enrolled), (6, false), "two people, each with three");
        let mut today = bare();
        today.faces = Some(40);
        let found = crowd(&today, &experiment);
        assert_eq!((found.faces, found.enrolled), (40, true), "who is enrolled in the collection stands above");
    }
}
