//! What was sent against what came back.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use facewire_bus::{BusError, ResultEvent, Results};
use facewire_contracts::{convert, v1};
use facewire_domain::{CameraId, CropId, Status, SubjectId};
use facewire_store_pg::Ledger;
use indicatif::ProgressBar;

use super::plan::Plan;
use super::play::{Gate, Kind, Sent};
use super::report::{Accuracy, CameraReport, Example, GateReport, Latency, Report};

const REJECTED: &str = "rejected";

/// Without a result for this long, what is missing counts as lost.
const STALLED: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
struct Ended {
    status: String,
    reason: Option<String>,
    subject: Option<String>,
    latency: Duration,
}

/// The demo's own ledger.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sent: HashMap<CropId, Sent>,
    ended: HashMap<CropId, Ended>,
    clock: Option<Instant>,
    elapsed: Duration,
}

impl Tally {
    /// These were taken by the stream.
    pub(super) fn expect(&mut self, sent: Vec<Sent>) {
        self.sent.extend(sent.into_iter().map(|sent| (sent.crop, sent)));
    }

    /// Crops without a result.
    pub(super) fn open(&self) -> u64 {
        self.sent.keys().filter(|crop| !self.ended.contains_key(crop)).count() as u64
    }

    /// The cameras begin.
    pub(super) fn start(&mut self) {
        self.clock = Some(Instant::now());
    }

    /// Reads results until every crop has one, or nothing came for a while.
    pub(super) async fn collect(&mut self, results: &mut Results, bar: &ProgressBar) -> Result<(), BusError> {
        while self.open() > 0 {
            let Ok(event) = tokio::time::timeout(STALLED, results.next()).await else { break };
            self.note(&event?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Every camera has played.
    pub(super) fn stop(&mut self) {
        self.elapsed = self.clock.map(|clock| clock.elapsed()).unwrap_or_default();
    }

    /// The plays to which the gate made a difference: what it rejected, and the probes of people whom it did not enrol.
    pub(super) fn held_back(&self, plan: &Plan) -> Vec<usize> {
        let rejected = |sent: &&Sent| self.ended.get(&sent.crop).is_some_and(|ended| ended.status == REJECTED);
        let with_gate = || self.sent.values().filter(|sent| sent.gate == Gate::On).filter(rejected);
        let people: HashSet<&SubjectId> = with_gate()
            .filter_map(|sent| match &sent.kind {
                Kind::Enrolment(subject) => Some(subject),
                Kind::Probe(_) => None,
            })
            .collect();
        let theirs = |number: &usize| {
            plan.plays.get(*number).and_then(|play| play.truth.as_ref()).is_some_and(|truth| people.contains(truth))
        };
        let plays: BTreeSet<usize> =
            with_gate().filter_map(|sent| sent.play).chain((0..plan.plays.len()).filter(theirs)).collect();
        plays.into_iter().collect()
    }

    fn note(&mut self, event: &ResultEvent) {
        let Some(result) = &event.result else { return };
        if let Ok(crop) = result.crop_id.parse() {
            self.ended.insert(crop, ended(result));
        }
    }

    /// The sum. `ledger` is what Postgres holds, `results` how many messages RESULTS holds.
    pub(super) fn report(&self, plan: &Plan, ledger: &Ledger, results: u64) -> Report {
        let ended = self.ended.len() as u64;
        let all: Vec<(&Sent, &Ended)> =
            self.sent.values().filter_map(|sent| Some((sent, self.ended.get(&sent.crop)?))).collect();
        let probes: Vec<(&Sent, &Ended)> = of(&all, Gate::On);
        let mut open: HashMap<usize, (&Sent, &Ended)> = probes.iter().filter_map(|p| Some((p.0.play?, *p))).collect();
        open.extend(of(&all, Gate::Off).into_iter().filter_map(|p| Some((p.0.play?, p))));
        let open: Vec<(&Sent, &Ended)> = open.into_values().collect();
        let seconds = self.elapsed.as_secs_f64();
        let persons: std::collections::BTreeSet<_> = plan.enrolments.iter().map(|e| &e.subject).collect();
        Report {
            published: self.sent.len() as u64,
            admitted: ledger.admitted,
            rows: ledger.rows,
            results,
            lost: self.open(),
            duplicated: results.saturating_sub(ended),
            by_status: count(self.ended.values().map(|e| e.status.clone())),
            by_reason: count(self.ended.values().filter_map(|e| e.reason.clone())),
            persons: persons.len() as u64,
            enrolled: enrolled(&all, Gate::On),
            enrolled_without_gate: enrolled(&all, Gate::Off),
            accuracy: accuracy(&probes),
            accuracy_without_gate: accuracy(&open),
            cameras: cameras(&probes, &open),
            latency_ms: Latency::of(probes.iter().map(|(_, e)| e.latency)),
            crops_per_s: if seconds > 0.0 { probes.len() as f64 / seconds } else { 0.0 },
            examples: examples(&probes),
            kept: None,
        }
    }
}

fn ended(result: &v1::Result) -> Ended {
    let person = result.decision.as_ref().and_then(|d| d.person.as_ref());
    let received = convert::time(result.received_at.as_ref(), "received_at");
    let finished = convert::time(result.finished_at.as_ref(), "finished_at");
    let latency = received.and_then(|r| finished.map(|f| f - r)).unwrap_or_default();
    Ended {
        status: result.status.clone(),
        reason: result.failure_reason.clone(),
        subject: person.map(|person| person.external_id.clone()),
        latency: latency.try_into().unwrap_or_default(),
    }
}

/// The probes of one of the collections.
fn of<'a>(all: &[(&'a Sent, &'a Ended)], gate: Gate) -> Vec<(&'a Sent, &'a Ended)> {
    all.iter().filter(|(sent, _)| sent.gate == gate && sent.play.is_some()).copied().collect()
}

fn enrolled(all: &[(&Sent, &Ended)], gate: Gate) -> u64 {
    let enrolled = |(sent, ended): &&(&Sent, &Ended)| sent.gate == gate && ended.status == Status::Enrolled.as_str();
    all.iter().filter(enrolled).count() as u64
}

fn count(names: impl Iterator<Item = String>) -> BTreeMap<String, u64> {
    names.fold(BTreeMap::new(), |mut counts, name| {
        *counts.entry(name).or_default() += 1;
        counts
    })
}

/// One crop of each status: of the first camera by name, and there of a reason that names a signal (`low_quality`) rather
/// than `face_too_small`, hence from the last reason by name.
fn examples(probes: &[(&Sent, &Ended)]) -> BTreeMap<String, Example> {
    let mut sorted: Vec<&(&Sent, &Ended)> = probes.iter().collect();
    sorted.sort_by_key(|(sent, ended)| {
        (sent.camera.to_string(), std::cmp::Reverse(ended.reason.clone()), sent.crop.as_uuid())
    });
    sorted.into_iter().fold(BTreeMap::new(), |mut examples, (sent, ended)| {
        examples.entry(ended.status.clone()).or_insert_with(|| Example {
            crop_id: sent.crop.to_string(),
            camera: sent.camera.to_string(),
            reason: ended.reason.clone(),
        });
        examples
    })
}

fn accuracy(probes: &[(&Sent, &Ended)]) -> Accuracy {
    let mut accuracy = Accuracy::default();
    for (sent, ended) in probes {
        let Kind::Probe(truth) = &sent.kind else { continue };
        let found = ended.subject.as_deref();
        match truth {
            Some(truth) => {
                accuracy.genuine += 1;
                judge_genuine(&mut accuracy, truth, found, &ended.status);
            }
            None => {
                accuracy.strangers += 1;
                accuracy.false_accepts += u64::from(found.is_some());
            }
        }
    }
    accuracy
}

fn judge_genuine(accuracy: &mut Accuracy, truth: &SubjectId, found: Option<&str>, status: &str) {
    match found {
        Some(found) if found == truth.as_str() => accuracy.correct += 1,
        Some(_) => accuracy.wrong_person += 1,
        None if status == Status::NoMatch.as_str() => accuracy.missed += 1,
        None => accuracy.rejected += 1,
    }
}

fn cameras(probes: &[(&Sent, &Ended)], open: &[(&Sent, &Ended)]) -> Vec<CameraReport> {
    let mut by_camera: BTreeMap<&CameraId, Vec<(&Sent, &Ended)>> = BTreeMap::new();
    for probe in probes {
        by_camera.entry(&probe.0.camera).or_default().push(*probe);
    }
    let one = |(camera, probes): (&CameraId, Vec<(&Sent, &Ended)>)| {
        let with = |status: Status| probes.iter().filter(|(_, e)| e.status == status.as_str()).count() as u64;
        let open: Vec<(&Sent, &Ended)> = open.iter().filter(|(sent, _)| sent.camera == *camera).copied().collect();
        CameraReport {
            camera: camera.to_string(),
            admitted: probes.len() as u64,
            matched: with(Status::Matched),
            no_match: with(Status::NoMatch),
            rejected: with(Status::Rejected),
            failed: with(Status::Failed),
            by_reason: count(probes.iter().filter_map(|(_, e)| e.reason.clone())),
            gate: gate(&probes, &open),
            latency_ms: Latency::of(probes.iter().map(|(_, e)| e.latency)),
        }
    };
    by_camera.into_iter().map(one).collect()
}

/// What the gate cost and saved at one camera: each rejected crop beside what it would have become.
fn gate(probes: &[(&Sent, &Ended)], open: &[(&Sent, &Ended)]) -> GateReport {
    let without: HashMap<usize, &Ended> = open.iter().filter_map(|(sent, ended)| Some((sent.play?, *ended))).collect();
    let mut report = GateReport { on: accuracy(probes), off: accuracy(open), ..GateReport::default() };
    for (sent, _) in probes.iter().filter(|(_, ended)| ended.status == REJECTED) {
        let Some(would) = sent.play.and_then(|play| without.get(&play)) else { continue };
        let right = match &sent.kind {
            Kind::Probe(Some(truth)) => would.subject.as_deref() == Some(truth.as_str()),
            Kind::Probe(None) => would.subject.is_none() && would.status == Status::NoMatch.as_str(),
            Kind::Enrolment(_) => continue,
        };
        match (right, would.status.as_str()) {
            (_, REJECTED) => report.never_recognisable += 1,
            (true, _) => report.rejected_right += 1,
            (false, _) => report.rejected_wrong += 1,
        }
    }
    report
}
