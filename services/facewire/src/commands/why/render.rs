//! The life of a crop as a person reads it: how it ended and what decided, who sent it, what was measured, where it was how
//! long. What is known is gathered elsewhere.

use comfy_table::{Cell, Color};
use facewire_domain::{Bound, Candidate, Decision, Detail, Reason, Stage, decimal};
use facewire_store_pg::{CropRecord, EndingRecord, FailureRecord, StageTime};
use time::OffsetDateTime;

use super::signals::{limit, signals};
use super::{Known, OnItsWay, advice, decision};
use crate::commands::format;
use crate::output::{line, table};

/// Tells it all.
pub(super) fn render(known: &Known) {
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
    line(format_args!("  captured  {}", format::moment(crop.captured_at)));
    line(format_args!("  received  {}", format::moment(crop.received_at)));
    let size = crop.width.zip(crop.height).map(|(width, height)| format!("{width} x {height}"));
    let bytes = crop.bytes.and_then(|bytes| u64::try_from(bytes).ok()).map(format::bytes);
    let image: Vec<String> = [crop.format.clone(), size, bytes].into_iter().flatten().collect();
    let image = if image.is_empty() { "of no known format".to_owned() } else { image.join(", ") };
    line(format_args!("  image     {image}, sha256 {}", crop.image_hash));
    let subject = crop.external_id.as_ref().map(|subject| format!(" {subject}")).unwrap_or_default();
    line(format_args!("  intent    {}{subject}", crop.intent));
}

fn face(known: &Known, ending: &EndingRecord) {
    let of = known.life.crop.face_count;
    let face = if of > 1 { format!("face {} of {of}: ", ending.face_index + 1) } else { String::new() };
    let took = format::span(ending.finished_at - ending.received_at);
    let status = ending.status.replace('_', " ").to_uppercase();
    line(format_args!("{face}{status}, decided by {} and written after {took}", ending.stage));
    let detail: Option<Detail> = ending.detail.clone().and_then(|detail| serde_json::from_value(detail).ok());
    let decision = decision(ending);
    if let Some(code) = &ending.reason {
        line(format_args!("  why       {}", format::reason(code, detail.as_ref())));
    }
    let bound = detail.as_ref().and_then(Bound::of_detail);
    changed_since(known, bound, detail.as_ref());
    decided(known, ending, decision.as_ref());
    if let Some(reason) = ending.reason.as_ref().and_then(|code| code.parse::<Reason>().ok()) {
        line(format_args!("  to do     {}", advice::about(reason, bound, decision.as_ref())));
    } else if let Some(doubt) = decision.as_ref().and_then(advice::doubt) {
        line(format_args!("  doubt     {doubt}"));
    }
    if let Some(model) = &ending.model {
        line(format_args!("  model     {model}"));
    }
    match ending.published_at {
        Some(at) => line(format_args!("  result    published {}", format::moment(at))),
        None => line("  result    not published yet"),
    }
    measured(known, ending, bound);
    stages(ending);
}

/// A limit that was another when the crop came.
fn changed_since(known: &Known, bound: Option<&Bound>, detail: Option<&Detail>) {
    let Some((bound, then)) = bound.zip(detail.and_then(|detail| detail.limit)) else { return };
    let now = known.limits.get(bound).map(decimal);
    if now.map(f64::to_bits) != Some(then.to_bits()) {
        let (then, now) = (format::number(then), now.map_or("off".to_owned(), format::number));
        line(format_args!("            the limit {} was {then} then and is {now} now", bound.name));
    }
}

fn decided(known: &Known, ending: &EndingRecord, decision: Option<&Decision>) {
    if let Some(decision) = decision {
        let threshold = decision.threshold;
        match decision.best {
            Some(best) => {
                let (name, similarity) = (name(known, &best), best.similarity);
                let apart = (similarity - threshold).abs();
                let side = if similarity >= threshold { "above" } else { "below" };
                line(format_args!(
                    "  nearest   {name}, similarity {similarity:.3}: {apart:.3} {side} the threshold {threshold:.3}"
                ));
                if let Some(second) = decision.runner_up {
                    let behind = similarity - second.similarity;
                    let (name, similarity) = (self::name(known, &second), second.similarity);
                    line(format_args!(
                        "  second    {name}, similarity {similarity:.3}: {behind:.3} behind the nearest"
                    ));
                }
                rule(decision);
            }
            None => line("  nearest   nobody"),
        }
    } else if let Some(person) = ending.person_id.and_then(|id| known.persons.get(&id.into())) {
        line(format_args!("  person    {} ({})", person.name, person.external_id));
    } else if ending.status == "rejected" && known.life.crop.intent == "recognize" {
        line("  nearest   not asked: what is rejected is not compared with anybody");
    }
}

/// What decided the threshold, and what else counted.
fn rule(decision: &Decision) {
    let by = decision.calibration.as_deref().map(|by| format::decided_by(by, decision.fpir, decision.faces));
    let margin = decision.margin.map(|margin| format!("a margin of {margin:.3} is needed"));
    let sure = decision.confidence.map(|sure| format!("confidence {}", format::percent(sure.into())));
    let parts: Vec<String> = [by, margin, sure].into_iter().flatten().collect();
    if !parts.is_empty() {
        line(format_args!("  decided   {}", parts.join("; ")));
    }
}

fn name(known: &Known, candidate: &Candidate) -> String {
    match known.persons.get(&candidate.person) {
        Some(person) => format!("{} ({})", person.name, person.external_id),
        None => format!("person {} (no longer enrolled)", candidate.person),
    }
}

/// Every signal beside its limit; the one that decided is marked.
fn measured(known: &Known, ending: &EndingRecord, bound: Option<&Bound>) {
    let Some(quality) = &ending.quality else {
        line("  measured  nothing: no face got as far as the gate");
        return;
    };
    let decisive = bound.filter(|_| ending.status == "rejected").map(|bound| bound.signal);
    let mut rows = table(&["signal", "value", "limit now", ""]);
    for check in signals(quality, &known.limits) {
        let value = check.value.map_or("no number".to_owned(), format::number);
        let verdict = match (check.ok, decisive == Some(check.signal)) {
            (_, true) => Cell::new("broken: this decided").fg(Color::Red),
            (Some(true), false) => Cell::new("ok").fg(Color::Green),
            (Some(false), false) if decisive.is_some() => Cell::new("broken too").fg(Color::Red),
            (Some(false), false) => Cell::new("broken, by the limit of now").fg(Color::Yellow),
            (None, false) => Cell::new(""),
        };
        let title = check.signal.spec().title();
        rows.add_row([Cell::new(title), Cell::new(value), Cell::new(limit(&check)), verdict]);
    }
    line(rows);
}

/// Where it was how long: waiting before each stage, then in it.
fn stages(ending: &EndingRecord) {
    let Ok(times) = serde_json::from_value::<Vec<StageTime>>(ending.times.clone()) else { return };
    let mut rows = table(&["stage", "began (UTC)", "after", "waited", "took"]);
    let mut before = ending.received_at;
    let mut row = |stage: &str, from: OffsetDateTime, to: OffsetDateTime| {
        let spans = [from - ending.received_at, from - before, to - from].map(format::span);
        rows.add_row([stage.to_owned(), format::clock(from)].into_iter().chain(spans));
        before = to;
    };
    for time in times.iter().filter(|time| time.stage != Stage::Enrich) {
        row(time.stage.as_str(), time.started_at, time.finished_at);
    }
    if let Some(published) = ending.published_at {
        row(Stage::Enrich.as_str(), ending.finished_at, published);
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
        let why = format::reason(&failure.reason, Some(&detail));
        rows.add_row([format::moment(failure.at), failure.stage.clone(), failure.status.clone(), why]);
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
