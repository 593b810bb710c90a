//! A projection head in the chain: the gallery goes behind it and back while crops keep coming, and nobody is taken for somebody else.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use facewire_bus::Bus;
use facewire_composition::{Config, Parts, Running, Service, heads};
use facewire_contracts::v1;
use facewire_domain::model::base_of;
use facewire_domain::{Calibration, Stage};
use facewire_inference::{HeadFile, Pack, SessionOptions};
use facewire_reconciler::{PassOptions, ReembedOptions, Reembedded};
use facewire_runtime::Shutdown;
use facewire_store_pg::{LedgerFilter, Store};
use facewire_training::{Faces as Labelled, Head, Settings, Shape, Trainer};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::pictures::Faces;
use super::shot::Shot;
use super::world::World;
use super::{POLL_INTERVAL, in_time, until};

/// Crops on their way at a time.
const WINDOW: u64 = 6;
/// Endings that each phase has at least.
const SOME: u64 = 5;
/// For a reconciler at work, and for the drain of a service.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same in every run: a projection on directions that nothing was learnt for.
fn head() -> HeadFile {
    let (shape, people, each) = (Shape { input: 512, hidden: 512, output: 256 }, 60_u32, 5);
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let (mut values, mut whose) = (Vec::new(), Vec::new());
    for person in 0..people {
        for _ in 0..each {
            let row: Vec<f32> = std::iter::repeat_with(&mut next).take(shape.input).collect();
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            values.extend(row.into_iter().map(|x| x / length));
            whose.push(person);
        }
    }
    let faces = Labelled::new(shape.input, values, whose).unwrap();
    let head: Head = Trainer::new(faces, Settings { shape, ..Settings::default() }).unwrap().best();
    HeadFile::of(Path::new("head.onnx"), head.to_onnx()).unwrap()
}

/// What a match needs is fixed: nobody measured this head.
fn matching() -> facewire_match::Options {
    facewire_match::Options { threshold: Some(0.3), margin: Some(0.0), ..Default::default() }
}

fn start(world: &World, parts: &Parts, services: &[Service]) -> Running {
    world.start_on(parts, services, matching(), &Shutdown::new(PATIENCE))
}

async fn stop(running: Running) {
    in_time("the end of a service", running.drain()).await.unwrap();
}

/// Crops of one person that keep coming, each from a camera of its own.
struct Load {
    enough: Arc<AtomicBool>,
    published: JoinHandle<u64>,
}

impl Load {
    fn start(world: &World, photos: Vec<std::path::PathBuf>) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let published = tokio::spawn(load(world.bus.clone(), world.store.clone(), photos, Arc::clone(&enough)));
        Self { enough, published }
    }

    /// How many there were.
    async fn stop(self) -> u64 {
        self.enough.store(true, Ordering::Relaxed);
        self.published.await.unwrap()
    }
}

fn camera(number: u64) -> String {
    format!("load-{number}")
}

async fn load(bus: Bus, store: Store, photos: Vec<std::path::PathBuf>, enough: Arc<AtomicBool>) -> u64 {
    let mut published = 0;
    for photo in photos.iter().cycle() {
        while published >= WINDOW + store.ledger(&LedgerFilter::default()).await.unwrap().published {
            if enough.load(Ordering::Relaxed) {
                return published;
            }
            sleep(POLL_INTERVAL).await;
        }
        if enough.load(Ordering::Relaxed) {
            break;
        }
        bus.publish(Shot::photo(&camera(published), photo).message()).await.unwrap();
        published += 1;
    }
    published
}

/// Waits until some more crops have ended.
async fn some_endings(world: &World) {
    let wanted = world.ledger().await.published + SOME;
    until("some endings", async || {
        let published = world.ledger().await.published;
        if published >= wanted { Ok(()) } else { Err(published) }
    })
    .await;
}

/// Brings the gallery to the model of `to`, as `facewire faces use-head` does.
async fn bring(world: &World, parts: &Parts, to: &Pack, head: Option<&HeadFile>) -> Reembedded {
    let reconciler = heads::reconciler(&Config::default(), parts).await.unwrap();
    let (store, pack) = (world.store.clone(), to.manifest().pack_fingerprint());
    let embedder = match head {
        Some(head) => {
            let session = head.open(world.models.runtime(), &SessionOptions::default()).unwrap();
            heads::FromRaw::through(store, pack, session)
        }
        None => heads::FromRaw::back(store, pack),
    };
    let dim = to.manifest().dim().try_into().unwrap();
    let options = ReembedOptions { model: to.fingerprint(), dim, batch: 2, leave_behind: false };
    reconciler.reembed(&options, &embedder, PATIENCE, &|_| {}).await.unwrap()
}

/// Of one person only, or honestly failed at a switch.
fn right(result: &v1::Result, subject: &str) -> bool {
    if result.status == "failed" {
        let detail = result.detail.clone().and_then(|detail| detail.message).unwrap_or_default();
        assert!(detail.starts_with("embedded by the model"), "{result:?}");
        return false;
    }
    assert_eq!(result.status, "matched", "{result:?}");
    let person = result.decision.as_ref().and_then(|decision| decision.person.as_ref()).unwrap();
    assert_eq!(person.external_id, subject, "a wrong person: {result:?}");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gallery_goes_behind_a_head_and_back_under_load_and_nobody_is_mistaken() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let (obama, biden) = (faces.obama(), faces.biden());
    let (plain, head) = (world.models.pack(), head());
    let projected = plain.clone().with_head(head.clone()).unwrap();
    let (embed, decide) = ([Service::Stage(Stage::Embed)], [Service::Stage(Stage::Match)]);
    let rest = [Stage::Ingest, Stage::Quality, Stage::Enrich].map(Service::Stage);
    let before = world.parts();
    let others = start(&world, &before, &rest);
    let (embedding, deciding) = (start(&world, &before, &embed), start(&world, &before, &decide));
    let enrolled = world.ask(&Shot::photo("desk", &obama.enroll).enroll(obama.subject, obama.name)).await;
    assert_eq!(enrolled.status, "enrolled", "{enrolled:?}");
    let load = Load::start(&world, obama.probes.clone());
    some_endings(&world).await;

    // The embedder first: what it makes carries the pack's own embedding, which the gallery is searched with until the switch.
    let mut behind = world.parts();
    behind.chain = Some(world.models.chain_of(&projected));
    let embedding = {
        let next = start(&world, &behind, &embed);
        stop(embedding).await;
        next
    };
    some_endings(&world).await;
    let done = bring(&world, &before, &projected, Some(&head)).await;
    assert_eq!((done.embedded, done.missing, done.indexed), (1, 0, 1), "{done:?}");
    some_endings(&world).await;
    world.serve_pack(&mut behind, &projected).await;
    let deciding = {
        let next = start(&world, &behind, &decide);
        stop(deciding).await;
        next
    };
    some_endings(&world).await;
    let late = world.ask(&Shot::photo("late", &biden.enroll).enroll(biden.subject, biden.name)).await;
    assert_eq!((late.status.as_str(), late.model.as_deref()), ("enrolled", Some(projected.fingerprint().as_str())));

    // And back, with whoever was enrolled meanwhile.
    let done = bring(&world, &behind, &plain, None).await;
    assert_eq!((done.embedded, done.missing, done.indexed), (2, 0, 2), "{done:?}");
    some_endings(&world).await;
    let mut back = world.parts();
    world.serve_pack(&mut back, &plain).await;
    let deciding = {
        let next = start(&world, &back, &decide);
        stop(deciding).await;
        next
    };
    some_endings(&world).await;
    let embedding = {
        let next = start(&world, &back, &embed);
        stop(embedding).await;
        next
    };
    some_endings(&world).await;
    let published = load.stop().await;
    let probe = biden.probes.first().unwrap_or(&biden.enroll);
    let known = world.ask(&Shot::photo("known", probe)).await;
    assert!(right(&known, biden.subject), "{known:?}");
    assert_eq!(known.model, Some(plain.fingerprint()));

    // Every crop ended exactly once, and by the model of its time.
    let total = published + 3;
    world.settled(total, total).await;
    let mut models = BTreeSet::new();
    for number in 0..published {
        let result = world.result(&camera(number)).await;
        if right(&result, obama.subject) {
            models.extend(result.model);
        }
    }
    assert_eq!(models, BTreeSet::from([plain.fingerprint(), projected.fingerprint()]));
    let reconciler = facewire_composition::reconciler(&Config::default(), &back).unwrap();
    let pass = reconciler.full(PassOptions { fix: false, ..Default::default() }, PATIENCE, &|_| {}).await.unwrap();
    assert_eq!(pass.total_found(), 0, "{pass:?}");
    for running in [others, embedding, deciding] {
        stop(running).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_thresholds_is_found_out_before_the_switch() {
    let faces = Faces::fetch().await;
    let mut world = World::new().await;
    let services = world.start();
    let obama = faces.obama();
    let enrolled = world.ask(&Shot::photo("desk", &obama.enroll).enroll(obama.subject, obama.name)).await;
    assert_eq!(enrolled.status, "enrolled", "{enrolled:?}");
    services.stop().await;
    let gallery = heads::reconciler(&Config::default(), &world.parts()).await.unwrap().gallery;
    let projected = world.models.pack().with_head(head()).unwrap().fingerprint();
    assert_eq!(base_of(&projected), Some(world.models.name().as_str()));
    let ruling = async |matching: facewire_match::Options, calibration: Option<Calibration>| {
        let config = Config { matching, ..Config::default() };
        heads::ruling(&config, &gallery, &projected, calibration).await.unwrap()
    };
    let usual = facewire_match::Options::default;
    let unruled = ruling(usual(), None).await;
    assert_eq!((unruled.missing().as_deref(), unruled.warning()), (Some("office"), None), "{unruled:?}");

    // A threshold that was chosen for another model would judge this one, and that is told.
    let fixed = ruling(matching(), None).await;
    assert_eq!((fixed.missing(), fixed.conflicts), (None, false), "{fixed:?}");
    assert!(fixed.warning().unwrap().contains("the threshold in office"), "{fixed:?}");
    let measured = ruling(usual(), world.models.calibration()).await;
    assert_eq!(measured, heads::Ruling::default(), "a rate that its own calibration turns into a threshold");
    let conflict = |similarity| facewire_match::Options { conflict_similarity: Some(similarity), ..usual() };
    let fixed = ruling(conflict(0.4), world.models.calibration()).await;
    assert!(fixed.warning().unwrap().contains("match.conflict_similarity"), "{fixed:?}");
    assert_eq!(ruling(conflict(1.0), world.models.calibration()).await.warning(), None, "nobody wants to know");
}
