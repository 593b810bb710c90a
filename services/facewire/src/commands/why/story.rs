//! The life of a crop as a person reads it: who sent it, where it was how long, what was measured, how it ended. What is
//! known is gathered elsewhere.

use comfy_table::{Cell, Color};
use facewire_domain::{Candidate, Detail};
use facewire_store_pg::{CropRecord, EndingRecord, FailureRecord, StageTime};
use time::OffsetDateTime;

use super::signals::signals;
use super::{Known, OnItsWay, decision};
use crate::commands::words;
use crate::output::{line, table};

/// Tells it all.
pub(super) fn tell(known: &Known) {
    head(&known.life.crop);
    for ending in &known.life.endings {
        line("");
        face(known, ending);
    }
    earlier(known);
    if let Some(on_its_way) = &known.on_its_way {
        line("");
        waiting(on_its_way);
    }
}

fn head(crop: &CropRecord) {
    line(format_args!("crop {} of {}/{}", crop.crop_id, crop.collection, crop.camera));
    line(format_args!("  captured  {}", words::moment(crop.captured_at)));
    line(format_args!("  received  {}", words::moment(crop.received_at)));
    let size = crop.width.zip(crop.height).map(|(width, height)| format!("{width} x {height}"));
    let bytes = crop.bytes.and_then(|bytes| u64::try_from(bytes).ok()).map(words::bytes);
    let image: Vec<String> = [crop.format.clone(), size, bytes].into_iter().flatten().collect();
    let image = if image.is_empty() { "of no known format".to_owned() } else { image.join(", ") };
    line(format_args!("  image     {image}, sha256 {}", crop.image_hash));
    let subject = crop.subject_id.as_ref().map(|subject| format!(" {subject}")).unwrap_or_default();
    line(format_args!("  intent    {}{subject}", crop.intent));
}

fn face(known: &Known, ending: &EndingRecord) {
    let of = known.life.crop.face_count;
    let face = if of > 1 { format!("face {} of {of}: ", ending.face_index + 1) } else { String::new() };
    let took = words::span(ending.finished_at - ending.received_at);
    line(format_args!("{face}{} at {} after {took}", ending.status, ending.stage));
    if let Some(code) = &ending.reason {
        let detail: Option<Detail> = ending.detail.clone().and_then(|detail| serde_json::from_value(detail).ok());
        line(format_args!("  why       {}", words::reason(code, detail.as_ref())));
    }
    decided(known, ending);
    if let Some(model) = &ending.model {
        line(format_args!("  model     {model}"));
    }
    match ending.published_at {
        Some(at) => line(format_args!("  result    published {}", words::moment(at))),
        None => line("  result    not published yet"),
    }
    stages(ending);
    measured(known, ending);
}

fn decided(known: &Known, ending: &EndingRecord) {
    if let Some(decision) = decision(ending) {
        let threshold = decision.threshold;
        match decision.best {
            Some(best) => {
                let side = if decision.matched { "reaches" } else { "is below" };
                let (name, similarity) = (name(known, &best), best.similarity);
                line(format_args!(
                    "  nearest   {name}, similarity {similarity:.3} {side} the threshold {threshold:.3}"
                ));
            }
            None => line("  nearest   nobody"),
        }
        if let Some(second) = decision.runner_up {
            line(format_args!("  second    {}, similarity {:.3}", name(known, &second), second.similarity));
        }
    } else if let Some(person) = ending.person_id.and_then(|id| known.persons.get(&id.into())) {
        line(format_args!("  person    {} ({})", person.name, person.subject_id));
    }
}

fn name(known: &Known, candidate: &Candidate) -> String {
    match known.persons.get(&candidate.person) {
        Some(person) => format!("{} ({})", person.name, person.subject_id),
        None => format!("person {} (no longer enrolled)", candidate.person),
    }
}

/// Where it was how long: waiting before each stage, then in it.
fn stages(ending: &EndingRecord) {
    let Ok(times) = serde_json::from_value::<Vec<StageTime>>(ending.times.clone()) else { return };
    let mut rows = table(&["stage", "began after", "waited", "took"]);
    let mut before = ending.received_at;
    let mut row = |stage: &str, from: OffsetDateTime, to: OffsetDateTime| {
        let spans = [from - ending.received_at, from - before, to - from].map(words::span);
        rows.add_row(std::iter::once(stage.to_owned()).chain(spans));
        before = to;
    };
    for time in &times {
        row(time.stage.as_str(), time.started_at, time.finished_at);
    }
    if let Some(published) = ending.published_at {
        row("enrich", ending.finished_at, published);
    }
    line(rows);
}

fn measured(known: &Known, ending: &EndingRecord) {
    let Some(quality) = &ending.quality else { return };
    let mut rows = table(&["signal", "value", "limit now", ""]);
    for signal in signals(quality, &known.limits) {
        let value = signal.value.map_or("no number".to_owned(), words::number);
        let verdict = match signal.kept() {
            Some(true) => Cell::new("ok").fg(Color::Green),
            Some(false) => Cell::new("broken").fg(Color::Red),
            None => Cell::new(""),
        };
        rows.add_row([Cell::new(signal.name), Cell::new(value), Cell::new(signal.limit()), verdict]);
    }
    line(rows);
}

/// Failures that are not the standing ending: a replay overcame them.
fn earlier(known: &Known) {
    let stands = |failure: &FailureRecord| {
        let same = |e: &EndingRecord| e.face_index == failure.face_index && e.reason.as_ref() == Some(&failure.reason);
        known.life.endings.iter().any(same)
    };
    let past: Vec<_> = known.life.failures.iter().filter(|failure| !stands(failure)).collect();
    if past.is_empty() {
        return;
    }
    line("\nbefore that");
    let mut rows = table(&["when", "stage", "status", "why"]);
    for failure in past {
        let detail = Detail {
            signal: failure.signal.clone(),
            value: failure.value,
            limit: failure.limit,
            message: failure.message.clone(),
            ..Detail::default()
        };
        let why = words::reason(&failure.reason, Some(&detail));
        rows.add_row([words::moment(failure.at), failure.stage.clone(), failure.status.clone(), why]);
    }
    line(rows);
}

fn waiting(on_its_way: &OnItsWay) {
    let missing = on_its_way.missing_endings;
    line(format_args!("not ended yet: {missing} ending(s) missing, it was admitted by ingest"));
    let busy: Vec<_> = on_its_way.stages.iter().filter(|lag| lag.pending + lag.ack_pending > 0).collect();
    if busy.is_empty() && !on_its_way.stages.is_empty() {
        line("  no stage has anything waiting: ask again in a moment");
    }
    for lag in busy {
        let (stage, pending, in_hand) = (lag.stage, lag.pending, lag.ack_pending);
        line(format_args!("  {stage:<9} has {pending} waiting and {in_hand} in hand: it may be among them"));
    }
    if on_its_way.dead_letters > 0 {
        line(format_args!("  {} messages were given up in all (stream DEAD)", on_its_way.dead_letters));
    }
}
