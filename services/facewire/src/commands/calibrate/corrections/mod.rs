//! `facewire calibrate --corrections`: from what people said of the faces that a collection keeps to a table of thresholds. No
//! picture is looked at and no model runs: the embeddings are in Postgres. The gate's limits stay as they are: a face that is kept
//! has passed them, so nothing is known of what they reject.
//!
//! The sample is biased, and in both directions. Faces get confirmed that were matched or clustered before: their pictures are
//! better than usual, and false matches of bad ones are missing. Faces get refused because they are alike: among all pairs of two
//! people such pairs are far rarer than in the sample. So each rate gets the highest of three thresholds: that of confirmed
//! faces alone, that of confirmed and refused ones, and today's, which goes on behind the sample's last rate (`joined.rs`). Folders, or
//! `--may-lower`, lower a threshold.

mod pairs;
mod report;
mod sample;

use anyhow::{Context, bail};
use facewire_composition::Config;
use facewire_composition::models::{self};
use facewire_domain::Calibration;
use facewire_domain::model::base_of;
use facewire_evaluation::Scores;
use facewire_store_pg::Store;
use time::OffsetDateTime;

use super::matching::{self, Candidates, Compared};
use super::report::{Crowd, Made};
use super::today::Today;
use super::{joined, stored};
use crate::cli::Calibrate;
use crate::commands::connect::{self, viewed};
use crate::output::{self, Exit};

use pairs::Pairs;
use report::{Report, Side};
use sample::{Sample, Wanted};

/// Confirmed faces that a camera saw, at least.
const LEAST: u32 = 30;

/// What a calibration is asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    fpir: f64,
    least: u32,
    /// Thresholds below today's are taken as well.
    may_lower: bool,
}

pub(super) async fn run(config: &Config, args: &Calibrate) -> anyhow::Result<Exit> {
    let collection = args.collection.as_ref().context("name the --collection whose corrections are meant")?;
    let manifest = models::manifest(&config.models)?;
    let (model, dim) = (manifest.fingerprint(), manifest.dim());
    let store = connect::postgres(config).await?;
    serves(&store, &model).await?;
    let today = Today::read(config, args, &manifest, Some(&store)).await?;
    let asked = Asked { fpir: today.fpir(args), least: args.least.unwrap_or(LEAST), may_lower: args.may_lower };
    let wanted = Wanted { collection, camera: args.camera.as_ref(), model: &model, dim, since: args.since };
    let sample = Sample::read(&store, &wanted).await?;
    let mut report = tokio::task::spawn_blocking(move || calibrate(&sample, &today, model, asked)).await??;
    if args.apply {
        stored::apply(&store, &report.made).await?;
        report.applied = true;
    }
    if args.json {
        output::json(&report)?;
    } else {
        report::show(&report);
    }
    Ok(Exit::Success)
}

/// A calibration of a model that does not serve would decide nothing; but for a head behind the pack that serves, which needs it
/// before it does.
async fn serves(store: &Store, model: &str) -> anyhow::Result<()> {
    match viewed(store.serving_model().await)?
        .filter(|serving| serving.model != model && !follows(model, &serving.model))
    {
        Some(serving) => {
            bail!("{} serves, and the configured pack is {model}: configure the one that serves", serving.model)
        }
        None => Ok(()),
    }
}

/// Whether both are of one pack, with a head of its own or none.
fn follows(model: &str, serving: &str) -> bool {
    base_of(model).is_some_and(|pack| pack == base_of(serving).unwrap_or(serving))
}

/// Blocks for as long as it takes.
fn calibrate(sample: &Sample, today: &Today, model: String, asked: Asked) -> anyhow::Result<Report> {
    sample.enough(asked.least as usize)?;
    let mut pairs = pairs::pairs(sample)?;
    let compared = compared(sample, &mut pairs)?;
    let faces = u32::try_from(sample.compared_with())?;
    let candidates = Candidates { answers: pairs.answers(), faces, wrong: "refused faces" };
    // With refused faces there are more errors, and more pairs too: sometimes the threshold is lower.
    let stricter = with_refused(&compared.scores, &pairs.refused)?;
    let least = |rate| stricter.as_ref().and_then(|scores| scores.threshold_at_fmr(rate)).unwrap_or(-1.0);
    let mut notes = report::bias(sample, asked.may_lower);
    let measured = matching::unnamed(&compared, &candidates, today, least, &mut notes)?;
    let measured_to = joined::measured_to(&measured);
    let fresh = match &today.calibration {
        Some(now) if !asked.may_lower => joined::not_below(measured, now, &mut notes),
        _ => joined::moved(measured, today.shape.as_ref(), &mut notes),
    };
    let gallery = Crowd::of(today, sample.compared_with());
    // What a folder said of the gate stays in force with it.
    let gate = today.here;
    let date = OffsetDateTime::now_utc().date();
    let version = matching::version(today, &model, (&fresh, &gate), date)?;
    let calibration = Calibration { version, ..fresh };
    calibration.validate().map_err(anyhow::Error::msg).context("the sample makes no calibration")?;
    let side = |threshold, decided_by| Side::new(&compared.scores, &pairs, threshold, decided_by);
    let threshold = calibration.threshold_for(asked.fpir, gallery.faces);
    let (collection, camera) = (today.collection.clone(), today.camera.clone());
    let report = Report {
        fpir: asked.fpir,
        gallery,
        sample: report::Counts::of(sample, &compared, &pairs),
        today: today.threshold(asked.fpir, gallery.faces).map(|(threshold, by)| side(threshold, by)),
        new: side(threshold, calibration.version.clone()),
        applied: false,
        notes,
        made: Made { collection, camera, model, calibration, measured_to, gate },
    };
    Ok(report.with_notes(today))
}

/// The pairs of confirmed faces: those of a calibration's rates. Takes them out of `pairs`.
fn compared(sample: &Sample, pairs: &mut Pairs) -> anyhow::Result<Compared> {
    let (people, faces, seen) = (sample.people(), sample.confirmed.faces.len(), sample.seen());
    let how = match &sample.camera {
        Some(camera) => format!("{seen} seen by camera {camera}, these against all"),
        None => format!("{seen} seen by cameras, all against all"),
    };
    Ok(Compared {
        scores: Scores::new(std::mem::take(&mut pairs.genuine), std::mem::take(&mut pairs.impostor))?,
        people: u32::try_from(people)?,
        probed: u32::try_from(sample.people_probed())?,
        alike: pairs.alike.similarities(),
        faces: format!("{faces} confirmed faces, {seen} of them seen"),
        data: format!(
            "corrections: {people} people, {faces} confirmed faces, {how}; {} refused",
            sample.refused.faces.len()
        ),
        all_against_all: sample.camera.is_none(),
        notes: Vec::new(),
    })
}

/// The pairs of two people with those that were refused; `None` where there are none.
fn with_refused(confirmed: &Scores, refused: &[f32]) -> anyhow::Result<Option<Scores>> {
    if refused.is_empty() {
        return Ok(None);
    }
    Ok(Some(Scores::new(Vec::new(), [confirmed.impostor(), refused].concat())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_pairs_can_only_raise_a_threshold() {
        let alike = Scores::new(vec![0.9], (0..1000).map(|n| n as f32 / 1000.0).collect()).unwrap();
        assert_eq!(with_refused(&alike, &[]).unwrap(), None);
        let threshold = |refused: &[f32]| {
            let stricter = with_refused(&alike, refused).unwrap().unwrap();
            alike.threshold_at_fmr(0.1).unwrap().max(stricter.threshold_at_fmr(0.1).unwrap())
        };
        let without = alike.threshold_at_fmr(0.1).unwrap();
        assert!(threshold(&[0.95; 200]) > without, "they are alike");
        assert_eq!(threshold(&[0.05; 2000]), without, "many that are not alike take nothing away");
    }
}
