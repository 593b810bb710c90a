//! The corpus against the whole chain on real servers: every crop that was taken has one row and one result with its
//! reason, every message that is none ends in DEAD or as what it turned out to be, no service fails, and memory does not
//! grow. `FACEWIRE_HOSTILE=10000` makes it the long run. Pictures and messages are made elsewhere.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use facewire_contracts::{subjects, v1};

use super::corpus::{Hostile, hostile, kinds};
use super::producer::Producer;
use super::wire::{crop_id, told_id};
use super::witness::Witness;
use super::{inputs, seed, starts};
use crate::chain::pictures::Faces;
use crate::chain::shot::Shot;
use crate::chain::until;
use crate::chain::wiretap::Wiretap;
use crate::chain::world::World;

/// Inputs under way at a time.
const WINDOW: u64 = 250;

/// From this many inputs on, memory is judged: a shorter run is still warming up.
const LONG: u64 = 2_000;

/// `h` and seven digits, wherever they stand.
fn marker_in(bytes: &[u8]) -> Option<String> {
    let fits = |w: &&[u8]| w.first() == Some(&b'h') && w.iter().skip(1).all(u8::is_ascii_digit);
    bytes.windows(8).find(fits).map(|marker| String::from_utf8_lossy(marker).into_owned())
}

fn kind_of(marker: &str) -> &'static str {
    let index: usize = marker.trim_start_matches('h').parse().unwrap();
    kinds().nth(index % kinds().count()).unwrap()
}

/// Markers or ids of everything that went to DEAD, and how often each reason was given.
type Letters = Arc<Mutex<(HashSet<String>, BTreeMap<String, u64>)>>;

async fn collect(mut tap: Wiretap, letters: Letters) {
    loop {
        let (subject, letter) = tap.letter().await;
        let name = marker_in(letter.subject.as_bytes());
        let name = name.or_else(|| told_id(&letter.subject, &letter.payload)).or_else(|| marker_in(&letter.payload));
        let mut letters = letters.lock().unwrap();
        letters.0.extend(name);
        *letters.1.entry(subject).or_default() += 1;
    }
}

/// What came of the corpus so far.
struct Tally {
    letters: Letters,
    /// Results of each marker.
    ended: HashMap<String, u64>,
    /// Markers of the crops that stages are told of, by their ids.
    ids: HashMap<String, String>,
    /// By kind, status and reason.
    ends: BTreeMap<(&'static str, String), u64>,
    crops: HashSet<String>,
    wrong: Vec<String>,
}

impl Tally {
    fn take(&mut self, result: &v1::Result) {
        // A camera's name may be what was damaged; the id is what the stage was told.
        let known = self.ids.get(&result.crop_id).cloned();
        let Some(marker) = known.or_else(|| marker_in(result.camera.as_bytes())) else { return };
        let reason = result.failure_reason.clone().unwrap_or_default();
        let told = !["rejected", "failed", "no_match"].contains(&result.status.as_str())
            || (!reason.is_empty() && result.stage.is_some() && result.detail.is_some());
        if !told {
            self.wrong.push(format!("{} {marker}: no reason: {result:?}", kind_of(&marker)));
        }
        *self.ends.entry((kind_of(&marker), format!("{} {reason}", result.status))).or_default() += 1;
        *self.ended.entry(marker).or_default() += 1;
    }

    /// Waits until each of these, by marker with its id, has come to an end.
    async fn all_ended(&mut self, world: &mut World, mut waiting: HashMap<String, String>) {
        until("an end of every hostile input", async || {
            while let Some(event) = world.next_within(Duration::from_millis(20)).await {
                let result = event.result.unwrap_or_else(|| panic!("no result can be read from {}", event.subject));
                self.take(&result);
            }
            let heard = {
                let letters = self.letters.lock().unwrap();
                let dead = |m: &String, id: &String| letters.0.contains(m) || letters.0.contains(id);
                waiting.retain(|m, id| !self.ended.contains_key(m) && (self.crops.contains(m) || !dead(m, id)));
                letters.1.values().sum::<u64>()
            };
            if waiting.is_empty() {
                return Ok(());
            }
            let mut left: Vec<_> = waiting.keys().take(12).map(|marker| (kind_of(marker), marker.clone())).collect();
            left.sort_unstable();
            // Where it stands: in a stage, in DEAD, or lost on the way to this test.
            let dead = format!("{heard} letters heard of {}", world.dead().await);
            Err((waiting.len(), left, dead, world.bus.lags().await.unwrap()))
        })
        .await;
    }
}

/// Resident memory of this process in KiB: services, models, the servers' local stand-in, and the test itself.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Publishes a window; the markers and ids of what the streams took.
async fn publish(producer: &mut Producer, tally: &mut Tally, window: Vec<Hostile>) -> HashMap<String, String> {
    let mut taken = HashMap::new();
    for input in window {
        match producer.publish(&input).await {
            Ok(()) => {
                if input.is_crop() {
                    tally.crops.insert(input.marker.clone());
                }
                let own = || crop_id(&input.marker).to_string();
                let id = told_id(&input.subject, &input.payload).unwrap_or_else(own);
                tally.ids.insert(id.clone(), input.marker.clone());
                taken.insert(input.marker, id);
            }
            Err(refused) => *tally.ends.entry((input.kind, format!("not taken: {refused}"))).or_default() += 1,
        }
    }
    taken
}

// One thread, so that the witness sees every service, and none of another test's.
#[tokio::test]
async fn every_hostile_input_ends_with_a_reason_and_no_service_fails() {
    let (seed, count) = (seed(), inputs(300));
    eprintln!("FACEWIRE_SEED={seed} FACEWIRE_HOSTILE={count}");
    let witness = Witness::listen();
    let faces = Faces::fetch().await;
    let mut world = World::isolated().await;
    let letters = Letters::default();
    let tap = Wiretap::on(&world.stack.nats_url, "dead.>").await;
    let collecting = tokio::spawn(collect(tap, Arc::clone(&letters)));
    let mut producer = Producer::connect(&world.stack.nats_url).await;
    let services = world.start();
    let (ended, ids, ends) = (HashMap::new(), HashMap::new(), BTreeMap::new());
    let mut tally = Tally { letters, ended, ids, ends, crops: HashSet::new(), wrong: Vec::new() };

    let started = std::time::Instant::now();
    let mut after_a_quarter = None;
    for first in (0..count).step_by(usize::try_from(WINDOW).unwrap()) {
        // Not on the thread of the services: they would stand still for seconds, and their waits for a connection end.
        let making = move || (first..count.min(first + WINDOW)).map(|index| hostile(seed, index)).collect::<Vec<_>>();
        let window = tokio::task::spawn_blocking(making).await.unwrap();
        let taken = publish(&mut producer, &mut tally, window).await;
        tally.all_ended(&mut world, taken).await;
        eprintln!("{:6} inputs, {:4} s, {:8} KiB", first + WINDOW, started.elapsed().as_secs(), memory());
        if first + WINDOW >= count / 4 {
            after_a_quarter.get_or_insert_with(memory);
        }
    }
    let (quarter, end) = (after_a_quarter.unwrap_or_default(), memory());

    let good = world.ask(&Shot::photo("good", &faces.obama().enroll).observe()).await;
    assert_eq!(good.status, "observed", "{good:?}");
    idle(&world).await;
    services.stop().await;
    collecting.abort();

    report(&tally, quarter, end);
    let seen = witness.seen();
    assert!(tally.wrong.is_empty(), "\n{}", tally.wrong.join("\n"));
    for marker in &tally.crops {
        assert_eq!(tally.ended.get(marker), Some(&1), "results of {} {marker}", kind_of(marker));
    }
    assert_eq!((seen.failed, seen.started), (Vec::new(), starts()), "failed, started; {:?}", seen.warnings);
    // Half as much again, and room for a few of the largest pictures that the limits allow.
    assert!(count < LONG || end < quarter + quarter / 2 + (512 << 10), "{quarter} KiB became {end} KiB");
}

/// Nothing on its way, one row for each face of each crop, one result for each row.
async fn idle(world: &World) {
    world.quiet().await;
    let ledger = world.ledger().await;
    let counts = (ledger.admitted, ledger.expected, ledger.rows, ledger.published, ledger.unfinished);
    assert!(ledger.is_settled(), "admitted, expected, rows, published, unfinished: {counts:?}");
    assert_eq!(world.bus.stream_messages(subjects::RESULTS).await.unwrap(), ledger.rows);
}

fn report(tally: &Tally, quarter: u64, end: u64) {
    for ((kind, end), count) in &tally.ends {
        eprintln!("{kind:24} {end:34} {count}");
    }
    for (subject, count) in &tally.letters.lock().unwrap().1 {
        eprintln!("{subject:40} {count}");
    }
    eprintln!("memory after a quarter {quarter} KiB, at the end {end} KiB");
}
