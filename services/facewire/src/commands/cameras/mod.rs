//! `facewire cameras`: which camera is bad, by which signal, and what other limits would change. It reads the views that
//! docs/SQL.md describes, and judges with the gate itself.

mod table;
mod whatif;

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use facewire_composition::Config;
use facewire_composition::models::{self};
use facewire_domain::{CameraId, CollectionId, Gate, Signal};
use facewire_store_pg::{CameraSum, Cause, SignalBounds, SignalSpread, Store, Window};
use serde::Serialize;
use time::OffsetDateTime;

use super::connect::{self, viewed};
use super::gates;
use crate::cli::Cameras;
use crate::output::{self, Exit};

use whatif::{Now, Rejudged};

/// From this usable share on a camera counts as fine: at a door somebody turns away now and then.
const FINE: f64 = 0.85;
/// From this one on it wants a look; below, more than two faces of five are lost, and the camera is bad.
const FAIR: f64 = 0.6;

/// What a usable share says of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Fine,
    Fair,
    Bad,
    /// The gate judged no face, or every one failed: nothing is known of the camera.
    Unknown,
}

impl Verdict {
    fn of(usable: Option<f64>) -> Self {
        match usable {
            None => Self::Unknown,
            Some(share) if share >= FINE => Self::Fine,
            Some(share) if share >= FAIR => Self::Fair,
            Some(_) => Self::Bad,
        }
    }
}

/// One camera.
#[derive(Debug, Serialize)]
struct CameraReport {
    #[serde(flatten)]
    sum: CameraSum,
    verdict: Verdict,
    /// Why endings were no success, the commonest first.
    causes: Vec<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signals: Option<Vec<SignalReport>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    what_if: Option<Rejudged>,
}

/// A signal beside what the gate accepts now.
#[derive(Debug, Serialize)]
struct SignalReport {
    #[serde(flatten)]
    spread: SignalSpread,
    min: Option<f64>,
    max: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    /// Worst first; last, those of which nothing is known.
    cameras: Vec<CameraReport>,
}

pub(crate) async fn run(config: Config, args: Cameras) -> anyhow::Result<Exit> {
    let store = connect::postgres(&config).await?;
    let window = args.ended.window();
    let (sums, causes) = viewed(store.cameras(&window).await)?;
    if sums.is_empty() && window.camera.is_some() {
        bail!(no_such_camera(&store, &window).await);
    }
    let gate = gates::now(&config, &store).await?;
    // A pack that cannot be read scores nothing anew.
    let score = models::manifest(&config.models).ok().and_then(|manifest| manifest.score);
    let early = score.as_ref().map(|model| &model.early);
    let mut cameras = gathered(sums, causes);
    let signals = args.signals || window.camera.is_some();
    for camera in &mut cameras {
        if signals {
            spread(&store, &window, &gate, camera).await?;
        }
        let now = Now::of(&gate, &camera.sum.collection, &camera.sum.camera, early);
        camera.what_if = what_if(&store, &args, now, camera).await?;
    }
    let report = Report { since: args.ended.since, cameras };
    if args.json {
        output::json(&report)?;
    } else {
        table::show(&report);
    }
    Ok(Exit::Success)
}

/// Each camera with its causes, the worst first. One of which nothing is known is not the worst: it comes last.
fn gathered(sums: Vec<CameraSum>, causes: Vec<Cause>) -> Vec<CameraReport> {
    let mut by_camera: BTreeMap<(String, String), Vec<Cause>> = BTreeMap::new();
    for cause in causes {
        by_camera.entry((cause.collection.clone(), cause.camera.clone())).or_default().push(cause);
    }
    let report = |sum: CameraSum| CameraReport {
        verdict: Verdict::of(sum.usable),
        causes: by_camera.remove(&(sum.collection.clone(), sum.camera.clone())).unwrap_or_default(),
        sum,
        signals: None,
        what_if: None,
    };
    let mut cameras: Vec<CameraReport> = sums.into_iter().map(report).collect();
    // Stable: cameras that are alike stay by name.
    let usable = |camera: &CameraReport| camera.sum.usable.unwrap_or(f64::INFINITY);
    cameras.sort_by(|a, b| usable(a).total_cmp(&usable(b)));
    cameras
}

/// A camera at a time: nine sorts of all its faces are a question for one statement, and not those of every camera.
async fn spread(store: &Store, window: &Window, gate: &Gate, camera: &mut CameraReport) -> anyhow::Result<()> {
    let (collection, name) = names(&camera.sum)?;
    let window = Window { collection: Some(collection), camera: Some(name), ..window.clone() };
    let limits = gate.limits(&camera.sum.collection, &camera.sum.camera);
    let bounds = |signal: Signal| {
        let (min, max) = limits.range(signal);
        let in_frames = signal.spec().bounds.iter().all(|bound| bound.in_frames);
        let (collection, signal) = (camera.sum.collection.clone(), signal.name().to_owned());
        SignalBounds { collection, signal, min, max, in_frames }
    };
    let bounds: Vec<SignalBounds> = Signal::ALL.into_iter().map(bounds).collect();
    let spreads = viewed(store.signal_spreads(&window, &bounds).await)?;
    let place = |spread: &SignalSpread| bounds.iter().position(|bound| bound.signal == spread.signal);
    let beside = |spread: SignalSpread| {
        let (min, max) = place(&spread).and_then(|place| bounds.get(place)).map_or((None, None), |b| (b.min, b.max));
        SignalReport { spread, min, max }
    };
    let mut reports: Vec<SignalReport> = spreads.into_iter().map(beside).collect();
    // As the gate judges.
    reports.sort_by_key(|report| place(&report.spread).unwrap_or(usize::MAX));
    camera.signals = Some(reports);
    Ok(())
}

fn names(sum: &CameraSum) -> anyhow::Result<(CollectionId, CameraId)> {
    let collection = sum.collection.parse().context("the collection in Postgres")?;
    Ok((collection, sum.camera.parse().context("the camera in Postgres")?))
}

/// Judges a camera's faces anew, where somebody asks or its signals are shown.
async fn what_if(
    store: &Store,
    args: &Cameras,
    now: Now<'_>,
    camera: &CameraReport,
) -> anyhow::Result<Option<Rejudged>> {
    let questions = match args.limits.as_slice() {
        [] if camera.signals.is_none() => return Ok(None),
        [] => whatif::suggested(&camera.causes, &now),
        changes => whatif::asked(changes),
    };
    let (collection, name) = names(&camera.sum)?;
    let never = u64::try_from(camera.sum.faces - camera.sum.measured).unwrap_or_default();
    let asked = whatif::rejudge(store, (&collection, &name), args.ended.since, now, &questions, never);
    Ok(Some(viewed(asked.await)?))
}

/// Says which cameras there are.
async fn no_such_camera(store: &Store, window: &Window) -> String {
    let camera = window.camera.as_ref().map(ToString::to_string).unwrap_or_default();
    let all = Window { camera: None, ..window.clone() };
    let names: Vec<String> = match store.cameras(&all).await {
        Ok((sums, _)) => sums.into_iter().map(|sum| sum.camera).collect(),
        Err(_) => Vec::new(),
    };
    let known = if names.is_empty() {
        "nothing ended in that time".to_owned()
    } else {
        format!("those with endings: {}", names.join(", "))
    };
    format!("nothing of camera {camera} ended in that time; {known} (--since looks further back)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_camera_is_the_first_and_an_unknown_one_the_last() {
        let sum = |camera: &str, usable| CameraSum {
            collection: "office".to_owned(),
            camera: camera.to_owned(),
            crops: 10,
            faces: 10,
            measured: 10,
            matched: 0,
            no_match: 0,
            enrolled: 0,
            already_enrolled: 0,
            observed: 0,
            extracted: 0,
            rejected: 0,
            failed: 0,
            usable,
            expected_recognisable: None,
            scored: 0,
            success: 0.0,
            last_ended_at: OffsetDateTime::UNIX_EPOCH,
        };
        let sums = [("attic", None), ("door", Some(0.9)), ("hall", Some(0.2)), ("yard", Some(0.7))];
        let cameras = gathered(sums.map(|(camera, usable)| sum(camera, usable)).to_vec(), Vec::new());
        let order: Vec<(&str, Verdict)> = cameras.iter().map(|it| (it.sum.camera.as_str(), it.verdict)).collect();
        let expected = [Verdict::Bad, Verdict::Fair, Verdict::Fine, Verdict::Unknown];
        assert_eq!(order, ["hall", "yard", "door", "attic"].into_iter().zip(expected).collect::<Vec<_>>());
    }
}
