//! Who is enrolled and what the cameras see: files read, faces found, pictures spoiled, all before the clock starts.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;
use facewire_artifacts::progress::Reporter;
use facewire_artifacts::{self as artifacts, FetchOptions, Kind};
use facewire_composition::models::Loaded;
use facewire_domain::{BoundingBox, CameraId, SubjectId};
use facewire_inference::FaceFind;
use facewire_vision::degrade::cut_out;
use facewire_vision::{Camera, DecodeLimits, RgbImage, decode};
use tokio_util::sync::CancellationToken;

use crate::cli::{Degrade, Demo};
use crate::commands::producer::collect;
use crate::commands::progress;
use crate::commands::spoil::{face_side, publish, side};

/// Around a face that is cut out of a group, as a part of its longer side: what camera-side detectors commonly leave.
const MARGIN: f32 = 0.4;

/// A person to enrol.
#[derive(Debug, Clone)]
pub(crate) struct Enrolment {
    pub(crate) subject: SubjectId,
    pub(crate) name: String,
    pub(crate) image: Bytes,
}

/// One crop of one camera, and who is on it: `None` is a stranger.
#[derive(Debug, Clone)]
pub(crate) struct Play {
    pub(crate) camera: CameraId,
    pub(crate) truth: Option<SubjectId>,
    pub(crate) image: Bytes,
}

/// Everything that will be published.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) enrolments: Vec<Enrolment>,
    pub(crate) plays: Vec<Play>,
}

/// A picture to play: a file, and if it shows several people, each of them is cut out.
struct Probe {
    truth: Option<SubjectId>,
    file: PathBuf,
    group: bool,
}

/// Reads, finds and spoils; with `cut`, every face is cut out as a camera would, else only those of groups. Blocks for some 100 ms a picture, so it runs on a thread of its own.
pub(super) async fn prepare(args: &Demo, models: &Loaded, cut: bool, report: Reporter) -> anyhow::Result<Plan> {
    let (people, probes) = match &args.faces {
        Some(directory) => of_directory(directory, args.enroll)?,
        None => of_samples(report).await?,
    };
    let strangers = match &args.strangers {
        Some(directory) => collect(std::slice::from_ref(directory))?,
        None => Vec::new(),
    };
    let strangers = strangers.into_iter().map(|file| Probe { truth: None, file, group: false });
    let cut = |probe: Probe| Probe { group: probe.group || cut, ..probe };
    let probes: Vec<Probe> = probes.into_iter().chain(strangers).map(cut).collect();
    let cameras: &[Camera] = match args.degrade {
        Degrade::None => &[Camera::Clean],
        Degrade::Cameras => &Camera::ALL,
    };
    let cameras = cameras.to_vec();
    let mut finder = models.pack.finder(&models.runtime, &models.session)?;
    let bar = progress::bar(probes.len() as u64, "prepare");
    // The end of the process waits for this thread: it ends with the picture in hand when nobody waits for it any more.
    let dropped = CancellationToken::new();
    let _guard = dropped.clone().drop_guard();
    let plays = tokio::task::spawn_blocking(move || {
        let mut plays = Vec::new();
        for probe in &probes {
            if dropped.is_cancelled() {
                bail!("stopped before the end");
            }
            plays.extend(play(&mut finder, probe, &cameras)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        anyhow::Ok(plays)
    })
    .await??;
    if people.is_empty() || plays.is_empty() {
        bail!("there is nobody to enrol or nothing to probe: give DIR/<person>/* with more than --enroll files each");
    }
    Ok(Plan { enrolments: people, plays })
}

type People = (Vec<Enrolment>, Vec<Probe>);

async fn of_samples(report: Reporter) -> anyhow::Result<People> {
    let kinds = [Kind::SamplePhotos, Kind::SampleGroup];
    let samples = artifacts::ensure(&kinds, &FetchOptions::default(), report).await?.samples;
    let (mut people, mut probes) = (Vec::new(), Vec::new());
    for person in samples.people() {
        let subject: SubjectId = person.subject.parse()?;
        people.push(Enrolment { subject: subject.clone(), name: person.name.to_owned(), image: read(&person.enroll)? });
        let own = person.probes.into_iter().map(|file| Probe { truth: Some(subject.clone()), file, group: false });
        probes.extend(own);
    }
    let strangers = samples.strangers().into_iter();
    probes.extend(strangers.map(|file| Probe { truth: None, file, group: false }));
    probes.push(Probe { truth: None, file: samples.group_photo(), group: true });
    Ok((people, probes))
}

/// `DIR/<person>/*`: the first `enroll` files by name are enrolled, the rest are probes.
fn of_directory(directory: &Path, enroll: usize) -> anyhow::Result<People> {
    let (mut people, mut probes) = (Vec::new(), Vec::new());
    for person in entries(directory)?.into_iter().filter(|path| path.is_dir()) {
        let name = person.file_name().and_then(|n| n.to_str()).context("a person's directory has no readable name")?;
        let subject: SubjectId = name.parse().with_context(|| format!("the directory {}", person.display()))?;
        for (index, file) in collect(std::slice::from_ref(&person))?.into_iter().enumerate() {
            if index < enroll {
                people.push(Enrolment { subject: subject.clone(), name: name.replace('_', " "), image: read(&file)? });
            } else {
                probes.push(Probe { truth: Some(subject.clone()), file, group: false });
            }
        }
    }
    Ok((people, probes))
}

fn entries(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let context = || format!("cannot read the directory {}", directory.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(context)? {
        paths.push(entry.with_context(context)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn read(file: &Path) -> anyhow::Result<Bytes> {
    Ok(std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?.into())
}

fn play(finder: &mut dyn FaceFind, probe: &Probe, cameras: &[Camera]) -> anyhow::Result<Vec<Play>> {
    let bytes = read(&probe.file)?;
    let Ok(image) = decode(&bytes, &DecodeLimits::default()) else {
        // Not ours to judge: every camera publishes it as it is, and the chain says what is wrong with it.
        return cameras.iter().map(|camera| one(*camera, probe, bytes.clone())).collect();
    };
    let mut boxes: Vec<BoundingBox> = finder.find(&image)?.into_iter().map(|face| face.bbox).collect();
    boxes.sort_by(|a, b| b.area().total_cmp(&a.area()));
    let scenes: Vec<(RgbImage, f32, Option<Bytes>)> = if probe.group {
        boxes.iter().map(|face| (cut_out(&image, face, MARGIN), side(face), None)).collect()
    } else {
        let size = face_side(boxes.first(), &image);
        vec![(image, size, Some(bytes))]
    };
    let mut plays = Vec::new();
    for (scene, face_side, original) in &scenes {
        for camera in cameras {
            plays.push(one(*camera, probe, publish(*camera, scene, *face_side, original.as_ref())?)?);
        }
    }
    Ok(plays)
}

fn one(camera: Camera, probe: &Probe, image: Bytes) -> anyhow::Result<Play> {
    Ok(Play { camera: camera.name().parse()?, truth: probe.truth.clone(), image })
}
