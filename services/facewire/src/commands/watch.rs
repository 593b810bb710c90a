//! `facewire watch`: results as they come, a line each. It reads only; the stream does not notice.

use std::io::IsTerminal;

use facewire_bus::{ResultEvent, Results};
use facewire_composition::Config;
use facewire_contracts::{convert, v1};
use facewire_domain::Detail;
use time::OffsetDateTime;

use super::{connect, format};
use crate::cli::Watch;
use crate::output::{self, Exit};

pub(crate) async fn run(config: Config, args: &Watch) -> anyhow::Result<Exit> {
    let filter = filter(args);
    let bus = connect::nats(&config, "watch").await?;
    if std::io::stderr().is_terminal() {
        output::say(format_args!("waiting for results on {filter}; Ctrl-C ends"));
    }
    let show = async {
        let results = connect::results(&bus, &filter, args.all).await;
        show(results, args).await;
    };
    tokio::select! {
        () = show => {}
        asked = tokio::signal::ctrl_c() => asked?,
    }
    Ok(Exit::Success)
}

fn filter(args: &Watch) -> String {
    let collection = args.collection.as_ref().map_or("*", |id| id.as_str());
    format!("results.{collection}.{}", args.camera.as_ref().map_or("*", |id| id.as_str()))
}

/// Until `--count` is reached or nobody reads any more.
async fn show(mut results: Results, args: &Watch) {
    let mut left = args.count;
    while left != Some(0) {
        let event = next(&mut results).await;
        let read = if args.json {
            output::line_read(String::from_utf8_lossy(&event.json))
        } else {
            output::line_read(line(&event))
        };
        if !read {
            return;
        }
        left = left.map(|left| left - 1);
    }
}

/// The next result, however often the connection breaks: after an error the reader goes on where it was, and so it is kept.
async fn next(results: &mut Results) -> ResultEvent {
    let mut failures = 0_u32;
    loop {
        match results.next().await {
            Ok(event) => return event,
            // Said once for a while: the server may be away for long.
            Err(error) if failures.is_multiple_of(10) => {
                output::say(format_args!("interrupted: {error}; trying again"));
            }
            Err(_) => {}
        }
        tokio::time::sleep(connect::PAUSES.pause(failures)).await;
        failures = failures.saturating_add(1);
    }
}

/// `12:00:00.250  default/door-1  matched  84.2 ms  <crop id>  Anna 0.612 (0.360 is needed)`.
fn line(event: &ResultEvent) -> String {
    let Some(result) = &event.result else {
        return format!("{}: a result that cannot be read; --json shows it as it is", event.subject);
    };
    let time = |at: Option<_>| convert::time(at, "").ok();
    let (finished, received) = (time(result.finished_at.as_ref()), time(result.received_at.as_ref()));
    let took = finished.zip(received).map(|(finished, received)| format::span(finished - received));
    let place = format!("{}/{}", result.collection, result.camera);
    let face = if result.face_count > 1 {
        format!("face {} of {}  ", result.face_index + 1, result.face_count)
    } else {
        String::new()
    };
    format!(
        "{}  {place:<20}  {:<16}  {:>9}  {}  {face}{}",
        format::clock(finished.unwrap_or(OffsetDateTime::UNIX_EPOCH)),
        result.status,
        took.unwrap_or_default(),
        result.crop_id,
        said(result),
    )
}

/// Who it is, or why nobody.
fn said(result: &v1::Result) -> String {
    let detail = result.detail.clone().map(Detail::from);
    if let Some(code) = &result.failure_reason {
        return format::reason(code, detail.as_ref());
    }
    let decided = result.decision.as_ref().filter(|decision| decision.matched);
    if let Some((decision, person)) = decided.and_then(|d| Some((d, d.person.as_ref()?))) {
        let second = decision.runner_up.as_ref().and_then(|second| Some((name(second), second.similarity?)));
        let second = second.map(|(name, similarity)| format!("; then {name} {similarity:.3}")).unwrap_or_default();
        let similarity = decision.similarity.unwrap_or_default();
        let sure =
            decision.confidence.map(|sure| format!(", confidence {}", format::percent(sure))).unwrap_or_default();
        let by = decision.calibration.as_ref().map(|by| format!(" {}", format::decided_by(by, decision.fpir, None)));
        let margin = decision.margin.map(|margin| format!(", margin {margin:.3}")).unwrap_or_default();
        let needed = format!("{:.3} is needed{}{margin}", decision.threshold, by.unwrap_or_default());
        return format!("{} {similarity:.3}{sure} ({needed}{second})", name(person));
    }
    result.person.as_ref().map(|person| name(person).to_owned()).unwrap_or_default()
}

fn name(person: &v1::Person) -> &str {
    [&person.name, &person.external_id, &person.person_id]
        .into_iter()
        .find(|s| !s.is_empty())
        .map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(result: v1::Result) -> String {
        line(&ResultEvent {
            subject: "results.default.door-1".to_owned(),
            sequence: 1,
            result: Some(result),
            json: bytes::Bytes::new(),
        })
    }

    #[test]
    fn a_match_shows_who_and_how_sure() {
        let at = |nanos| convert::timestamp(OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap());
        let person = |name: &str, similarity| v1::Person {
            name: name.to_owned(),
            similarity: Some(similarity),
            ..v1::Person::default()
        };
        let text = shown(v1::Result {
            crop_id: "c".to_owned(),
            collection: "default".to_owned(),
            camera: "door-1".to_owned(),
            status: "matched".to_owned(),
            received_at: Some(at(1_700_000_000_000_000_000)),
            finished_at: Some(at(1_700_000_000_084_200_000)),
            decision: Some(v1::Decision {
                matched: true,
                threshold: 0.36,
                similarity: Some(0.612),
                person: Some(person("Anna", 0.612)),
                runner_up: Some(person("Bob", 0.1)),
                confidence: Some(0.998),
                calibration: Some("default-1".to_owned()),
                margin: Some(0.05),
                fpir: Some(0.01),
                people: Some(298),
                faces: Some(305),
            }),
            ..v1::Result::default()
        });
        assert!(text.starts_with("22:13:20.084  default/door-1"), "{text}");
        let said =
            "Anna 0.612, confidence 99.8 % (0.360 is needed by default-1 at FPIR 1 %, margin 0.050; then Bob 0.100)";
        assert!(text.contains("84.2 ms") && text.ends_with(said), "{text}");
    }

    #[test]
    fn a_face_of_a_frame_says_which() {
        let text = shown(v1::Result {
            status: "rejected".to_owned(),
            failure_reason: Some("low_quality".to_owned()),
            detail: Some(Detail::limit("blur", 3.0, 60.0).into()),
            face_index: 1,
            face_count: 6,
            ..v1::Result::default()
        });
        assert!(text.ends_with("face 2 of 6  low_quality: blur 3, at least 60 is needed"), "{text}");
    }

    #[test]
    fn what_is_not_named_is_any() {
        let args = |camera: Option<&str>| Watch {
            collection: Some("office".parse().unwrap()),
            camera: camera.map(|camera| camera.parse().unwrap()),
            all: false,
            count: None,
            json: false,
        };
        assert_eq!(filter(&args(Some("door-1"))), "results.office.door-1");
        assert_eq!(filter(&args(None)), "results.office.*");
    }
}
