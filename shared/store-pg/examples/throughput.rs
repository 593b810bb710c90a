//! How many crops a second the hot path takes: admit, finish, mark published, in batches, by several workers at once.
//! Takes the URL of a database, which gets the schema and keeps the made-up crops: give it one of its own.
//!
//!     cargo run --release -p facewire-store-pg --example throughput -- postgres://postgres@127.0.0.1/bench 40000

use std::error::Error;
use std::time::Instant;

use facewire_domain::{
    BoundingBox, Candidate, CropId, Decision, Detail, ImageHash, Intent, Outcome, Quality, Reason, Stage, Status,
};
use facewire_store_pg::{CropHead, Ending, FaceQuality, NewCrop, Options, StageTime, Store};
use time::OffsetDateTime;
use uuid::Uuid;

type AnyError = Box<dyn Error + Send + Sync>;

const WORKERS: u64 = 4;

fn head(run: OffsetDateTime, number: u64) -> Result<CropHead, AnyError> {
    let (collection, camera) = ("bench".parse()?, format!("camera-{}", number % 50).parse()?);
    let image_hash = ImageHash::of(&number.to_be_bytes());
    let crop = CropId::derive(&collection, &camera, run, &image_hash);
    let intent = Intent::Recognize;
    Ok(CropHead {
        crop,
        collection,
        camera,
        captured_at: run,
        received_at: run,
        image_hash,
        intent,
        subject: None,
        frame: false,
    })
}

/// One in ten is rejected, the others have a decision; all with five stages' times.
fn ending(crop: CropHead, number: u64) -> Ending {
    let at = crop.captured_at;
    let candidate =
        |id| Candidate { person: Uuid::from_u128(id).into(), face: Uuid::from_u128(id).into(), similarity: 0.5 };
    let (best, runner_up) = (Some(candidate(1)), Some(candidate(2)));
    let decision = Decision { matched: true, threshold: 0.36, best, runner_up, ..Decision::default() };
    let reject = number.is_multiple_of(10);
    let blurred = || Outcome::rejected(Stage::Quality, Reason::LowQuality, Detail::limit("blur", 38.2, 60.0));
    Ending {
        face_index: 0,
        face_count: 1,
        outcome: if reject { blurred() } else { Outcome::success(Status::Matched, Stage::Match) },
        quality: Some(FaceQuality { signals: Quality { score: 0.5, ..Quality::default() }, status: "ok".to_owned() }),
        bounding_box: Some(BoundingBox { x1: 10.5, y1: 20.25, x2: 110.0, y2: 140.0 }),
        decision: (!reject).then_some(decision),
        person: None,
        face: None,
        model: Some("pack-1".to_owned()),
        times: Stage::ALL.map(|stage| StageTime { stage, started_at: at, finished_at: at }).to_vec(),
        finished_at: Some(at),
        crop,
    }
}

async fn work(store: Store, run: OffsetDateTime, numbers: Vec<u64>, batch: usize) -> Result<[f64; 3], AnyError> {
    let mut seconds = [0.0; 3];
    for chunk in numbers.chunks(batch) {
        let heads = chunk.iter().map(|number| head(run, *number)).collect::<Result<Vec<_>, _>>()?;
        let crop =
            |head: &CropHead| NewCrop { head: head.clone(), bytes: 20_000, format: None, size: None, asset: None };
        let crops: Vec<NewCrop> = heads.iter().map(crop).collect();
        let keys: Vec<(CropId, u32, u32)> = heads.iter().map(|head| (head.crop, 0, 1)).collect();
        let endings: Vec<Ending> = heads.into_iter().zip(chunk).map(|(head, number)| ending(head, *number)).collect();
        let start = Instant::now();
        store.admit(&crops).await?;
        let admitted = Instant::now();
        store.finish(&endings).await?;
        let finished = Instant::now();
        store.mark_published(&keys).await?;
        let [admit, finish, mark] = &mut seconds;
        *admit += (admitted - start).as_secs_f64();
        *finish += (finished - admitted).as_secs_f64();
        *mark += finished.elapsed().as_secs_f64();
    }
    Ok(seconds)
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("give the URL of a database")?;
    let total: u64 = arguments.next().map_or(Ok(20_000), |number| number.parse())?;
    let store = Store::connect(&Options { url: url.into(), ..Options::default() }).await?;
    store.migrate().await?;
    for batch in [64, 256] {
        let (run, start) = (OffsetDateTime::now_utc(), Instant::now());
        let tasks: Vec<_> = (0..WORKERS)
            .map(|worker| (worker..total).step_by(usize::try_from(WORKERS).unwrap_or(1)).collect())
            .map(|numbers| tokio::spawn(work(store.clone(), run, numbers, batch)))
            .collect();
        let mut seconds = [0.0; 3];
        for task in tasks {
            seconds.iter_mut().zip(task.await??).for_each(|(sum, more)| *sum += more);
        }
        let rate = total as f64 / start.elapsed().as_secs_f64();
        let [admit, finish, mark] = seconds.map(|spent| spent * 1e6 / total as f64);
        eprintln!(
            "batch {batch:>4}, {WORKERS} workers: {rate:>6.0} crops/s; waiting a crop: admit {admit:.0} µs, finish {finish:.0} µs, mark {mark:.0} µs"
        );
    }
    let ledger = store.ledger(&Default::default()).await?;
    eprintln!("{} crops, {} rows, {} published", ledger.admitted, ledger.rows, ledger.published);
    Ok(())
}
