//! What a result says and what it must not say.

use facewire_domain::{CropId, Detail, ImageHash, Intent, Outcome, Reason, Status};
use facewire_store_pg::CropHead;

use super::*;

fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_700_000_000 + second).unwrap()
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(number: u8) -> T {
    format!("00000000-0000-8000-8000-0000000000{number:02x}").parse().unwrap()
}

fn row(outcome: Outcome, decision: Option<Decision>) -> Ending {
    let (collection, camera) = ("office".parse().unwrap(), "door".parse().unwrap());
    let image_hash = ImageHash::of(b"x");
    let crop = CropId::derive(&collection, &camera, at(0), &image_hash);
    let (captured_at, received_at, intent, subject) = (at(0), at(1), Intent::Recognize, None);
    let time = |stage, from, to| StageTime { stage, started_at: at(from), finished_at: at(to) };
    Ending {
        crop: CropHead {
            crop,
            collection,
            camera,
            captured_at,
            received_at,
            image_hash,
            intent,
            subject,
            frame: false,
        },
        face_index: 0,
        face_count: 1,
        outcome,
        quality: None,
        bounding_box: None,
        decision,
        person: None,
        face: None,
        model: None,
        times: vec![time(Stage::Match, 2, 3), time(Stage::Enrich, 4, 4)],
        finished_at: Some(at(5)),
    }
}

fn matched() -> Ending {
    let candidate = |number| Candidate { person: id(number), face: id(number + 10), similarity: 0.5 };
    let (best, runner_up) = (Some(candidate(1)), Some(candidate(2)));
    let decision = Decision { matched: true, threshold: 0.36, best, runner_up, ..Decision::default() };
    row(Outcome::success(Status::Matched, Stage::Match), Some(decision))
}

fn persons(statuses: [PersonStatus; 2]) -> Persons {
    let person = |(number, status): (u8, PersonStatus)| {
        let person = Person {
            person_id: id(number),
            external_id: format!("s{number}").parse().unwrap(),
            name: format!("Name {number}"),
            status,
            metadata: serde_json::json!({}),
        };
        (id(number), person)
    };
    (1..).zip(statuses).map(person).collect()
}

#[test]
fn a_match_names_the_best_and_the_runner_up() {
    let result = result(&matched(), &persons([PersonStatus::Active; 2]));
    let decision = result.decision.unwrap();
    let (best, second) = (decision.person.unwrap(), decision.runner_up.unwrap());
    assert_eq!((best.name.as_str(), best.external_id.as_str(), best.similarity), ("Name 1", "s1", Some(0.5)));
    assert_eq!(second.name, "Name 2");
    assert_eq!((result.stage, result.failure_reason), (None, None), "a success has no stage to blame");
}

#[test]
fn a_hidden_person_is_matched_without_name_and_is_no_runner_up() {
    let hidden = persons([PersonStatus::Hidden, PersonStatus::Hidden]);
    let result_of_both = result(&matched(), &hidden);
    let json = serde_json::to_string(&result_of_both).unwrap();
    assert!(
        !json.contains("Name") && !json.contains("\"s1\"") && !json.contains(&id::<PersonId>(2).to_string()),
        "{json}"
    );
    let decision = result_of_both.decision.unwrap();
    assert_eq!(decision.person.unwrap().person_id, id::<PersonId>(1).to_string());
    assert_eq!(decision.runner_up, None);

    let mut enrolled = row(Outcome::success(Status::Enrolled, Stage::Match), None);
    enrolled.person = Some(id(1));
    let person = result(&enrolled, &hidden).person.unwrap();
    assert_eq!((person.person_id, person.name), (id::<PersonId>(1).to_string(), String::new()));
}

#[test]
fn an_erased_person_is_nobody() {
    let mut enrolled = row(Outcome::success(Status::Enrolled, Stage::Match), None);
    (enrolled.person, enrolled.face) = (Some(id(1)), Some(id(11)));
    for row in [matched(), enrolled] {
        let json = serde_json::to_string(&result(&row, &Persons::new())).unwrap();
        for erased in [1, 2, 11, 12] {
            assert!(!json.contains(&id::<PersonId>(erased).to_string()), "{json}");
        }
    }
    let survivor = persons([PersonStatus::Active; 2]).into_iter().filter(|(person, _)| *person == id(2)).collect();
    let decision = result(&matched(), &survivor).decision.unwrap();
    assert_eq!((decision.matched, decision.person), (true, None));
    assert_eq!(decision.runner_up.unwrap().name, "Name 2");
}

#[test]
fn whoever_is_not_matched_is_not_named() {
    let mut missed = matched();
    missed.outcome = Outcome::no_match(Reason::Ambiguous, Detail::default());
    missed.decision.as_mut().unwrap().matched = false;
    assert_eq!(super::persons(&missed).count(), 0, "nobody has to be looked up");
    let result = result(&missed, &persons([PersonStatus::Active; 2]));
    let decision = result.decision.unwrap();
    assert_eq!((decision.person, decision.runner_up, decision.similarity), (None, None, Some(0.5)));
    assert_eq!(result.stage.as_deref(), Some("match"));
}

#[test]
fn each_generation_and_each_row_is_another_message() {
    let (row, result) = (matched(), result(&matched(), &Persons::new()));
    let crop = row.crop.crop;
    let id = |generation, second| {
        let row = Ending { finished_at: Some(at(second)), ..row.clone() };
        let finished = Finished { row, generation, published: false, wrote: true };
        message(&finished, &result, None).unwrap().id.unwrap()
    };
    let ids = [id(1, 5), id(2, 5), id(1, 6)];
    let expected = ["1700000005000000:1", "1700000005000000:2", "1700000006000000:1"];
    assert_eq!(ids, expected.map(|end| format!("{crop}:result:0:{end}")));
}

#[test]
fn the_last_stage_ends_with_the_write_and_never_before_it_began() {
    let finished = |row: &Ending| result(row, &Persons::new()).times[1].finished_at.unwrap().seconds;
    let mut row = matched();
    assert_eq!(finished(&row), at(5).unix_timestamp());
    row.finished_at = Some(at(3));
    assert_eq!(finished(&row), at(4).unix_timestamp(), "Postgres' clock is behind ours");
}

#[test]
fn a_shortened_result_still_says_how_it_ended() {
    let detail = Detail::limit("blur", 38.0, 60.0).with_message("long");
    let whole = result(&row(Outcome::rejected(Stage::Quality, Reason::LowQuality, detail), None), &Persons::new());
    let short = shortened(whole.clone());
    let detail = short.detail.as_ref().unwrap();
    assert_eq!((detail.value, detail.message.as_deref(), short.times.len()), (Some(38.0), None, 0));
    assert_eq!((short.status, short.failure_reason), (whole.status, whole.failure_reason));
}

#[test]
fn only_the_reply_tells_points_embedding_and_candidates_and_hides_whom_it_must() {
    let missed = row(Outcome::no_match(Reason::BelowThreshold, Detail::default()), Some(Decision::default()));
    let mut known = persons([PersonStatus::Active, PersonStatus::Hidden]);
    // Two ids of one person: the third was merged into the first.
    known.insert(id(3), known[&id(1)].clone());
    let candidate = |number| Candidate { person: id(number), face: id(number + 10), similarity: 0.5 };
    let told = Reply {
        subject: "answers.7".to_owned(),
        landmarks: vec![v1::Point { x: 1.0, y: 2.0 }; 5],
        embedding: vec![0.6, 0.8],
        candidates: [1, 2, 3, 4].map(candidate).to_vec(),
    };
    let published = result(&missed, &known);
    let json = serde_json::to_string(&published).unwrap();
    assert!(["landmarks\"", "embedding\"", "candidates", "reply"].iter().all(|word| !json.contains(word)), "{json}");
    let reply = reply(published, &told, &known).reply.unwrap();
    assert_eq!((reply.landmarks.len(), reply.embedding.len()), (5, 2));
    let names: Vec<String> = reply.candidates.into_iter().map(|person| person.name).collect();
    assert_eq!(names, ["Name 1"], "hidden, merged and erased ones are no entries of their own");
}
