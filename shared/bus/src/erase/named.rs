//! Whether a message names persons who are erased, and what is put in place of work that does. Pure.

use std::collections::HashSet;

use async_nats::HeaderMap;
use bytes::Bytes;
use facewire_contracts::{Message as _, headers, v1};
use facewire_domain::{CollectionId, Detail, Outcome, PersonId, Reason, Stage, SubjectId};

/// Characters of a UUID as text.
const UUID: usize = 36;

/// Who is not to be named any more.
pub(super) struct Named {
    collection: CollectionId,
    persons: HashSet<String>,
    subjects: HashSet<String>,
}

/// A message of a stage's stream.
#[derive(Debug, PartialEq)]
pub(super) enum Work {
    /// It is not to be erased.
    Other,
    /// It is, and this ending of its crop takes its place.
    Replaced(Box<v1::EnrichTask>),
}

impl Work {
    /// Of work whose crop is not to get any further: it ends here.
    pub(super) fn ended(stage: Stage, crop: v1::Crop) -> Self {
        let why = Detail::message("what it concerns was erased after the crop was received");
        let ending = Outcome::rejected(stage, Reason::IdentityConflict, why).into();
        Self::Replaced(Box::new(v1::EnrichTask { crop: Some(crop), ending: Some(ending), ..v1::EnrichTask::default() }))
    }
}

impl Named {
    pub(super) fn new(collection: &CollectionId, persons: &[PersonId], subjects: &[SubjectId]) -> Self {
        Self {
            collection: collection.clone(),
            persons: persons.iter().map(ToString::to_string).collect(),
            subjects: subjects.iter().map(ToString::to_string).collect(),
        }
    }

    /// Whether the id of one of the persons is anywhere in the JSON. Ids need no escapes.
    pub(super) fn in_json(&self, json: &[u8]) -> bool {
        let is_uuid = |text: &[u8]| [8, 13, 18, 23].iter().all(|at| text.get(*at) == Some(&b'-'));
        let of_ours = |text: &[u8]| std::str::from_utf8(text).is_ok_and(|text| self.persons.contains(text));
        json.windows(UUID).any(|text| is_uuid(text) && of_ours(text))
    }

    /// Whether a crop that was not admitted yet names one of the persons.
    pub(super) fn crop(&self, headers: &HeaderMap) -> bool {
        headers.get_all(headers::SUBJECT).any(|value| self.is_subject(value.as_str()))
    }

    fn is_subject(&self, value: &str) -> bool {
        self.subjects.contains(value.trim())
    }

    /// Whether the message of a stage behind ingest names one of the persons.
    pub(super) fn work(&self, stage: Stage, payload: &Bytes) -> Work {
        if stage == Stage::Enrich {
            return v1::EnrichTask::decode(payload.clone()).map_or(Work::Other, |task| self.ending(task));
        }
        let crop = v1::CropOnly::decode(payload.clone()).ok().and_then(|task| task.crop);
        let Some(mut crop) = crop.filter(|crop| self.is_ours(crop)) else { return Work::Other };
        forget_subject(&mut crop);
        Work::ended(stage, crop)
    }

    fn is_ours(&self, crop: &v1::Crop) -> bool {
        crop.collection == self.collection.as_str() && self.is_subject(&crop.subject_id)
    }

    /// An ending without the persons, if it names any.
    fn ending(&self, mut task: v1::EnrichTask) -> Work {
        let before = task.clone();
        if let Some(crop) = task.crop.as_mut().filter(|crop| self.is_ours(crop)) {
            forget_subject(crop);
        }
        if let Some(ending) = &mut task.ending {
            if self.persons.contains(&ending.person_id) {
                (ending.person_id, ending.face_id) = (String::new(), String::new());
            }
            self.forget_verdict(ending);
        }
        if let Some(told) = &mut task.reply_only {
            told.candidates.retain(|candidate| !self.persons.contains(&candidate.person_id));
        }
        if task == before { Work::Other } else { Work::Replaced(Box::new(task)) }
    }

    /// As rows are erased: of a match with one of the persons nothing stays, of another decision the rest does.
    fn forget_verdict(&self, ending: &mut v1::Ending) {
        let is_erased = |candidate: &v1::Candidate| self.persons.contains(&candidate.person_id);
        let Some(verdict) = &mut ending.verdict else { return };
        if verdict.matched && verdict.best.as_ref().is_some_and(is_erased) {
            ending.verdict = None;
            ending.face_id.clear();
            return;
        }
        verdict.best = verdict.best.take().filter(|best| !is_erased(best));
        verdict.runner_up = verdict.runner_up.take().filter(|second| !is_erased(second));
    }

    /// Whether the original of a dead letter names one of the persons.
    pub(super) fn letter(&self, stage: Stage, letter: &v1::DeadLetter) -> bool {
        if stage != Stage::Ingest {
            return self.work(stage, &letter.payload) != Work::Other;
        }
        let said = letter.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(headers::SUBJECT));
        letter.subject.split('.').nth(1) == Some(self.collection.as_str())
            && said.into_iter().any(|(_, value)| self.is_subject(value))
    }
}

fn forget_subject(crop: &mut v1::Crop) {
    crop.subject_id.clear();
    crop.person_name.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: &str = "00000000-0000-8000-8000-000000000001";
    const BELA: &str = "00000000-0000-8000-8000-000000000002";

    fn named() -> Named {
        Named::new(&"office".parse().unwrap(), &[ADA.parse().unwrap()], &["ada-7".parse().unwrap()])
    }

    fn crop(collection: &str, subject: &str) -> v1::Crop {
        let (collection, subject_id) = (collection.to_owned(), subject.to_owned());
        v1::Crop { collection, subject_id, person_name: "Ada".to_owned(), ..v1::Crop::default() }
    }

    fn candidate(person: &str) -> Option<v1::Candidate> {
        Some(v1::Candidate { person_id: person.to_owned(), face_id: "f".to_owned(), similarity: 0.5 })
    }

    fn verdict(matched: bool, best: &str, second: &str) -> v1::EnrichTask {
        let (best, runner_up) = (candidate(best), candidate(second));
        let verdict = Some(v1::Verdict { matched, best, runner_up, ..v1::Verdict::default() });
        let ending = Some(v1::Ending { verdict, ..v1::Ending::default() });
        v1::EnrichTask { crop: Some(crop("office", "")), ending, ..v1::EnrichTask::default() }
    }

    fn of(task: &v1::EnrichTask) -> Option<v1::EnrichTask> {
        match named().work(Stage::Enrich, &task.encode_to_vec().into()) {
            Work::Replaced(ending) => Some(*ending),
            Work::Other => None,
        }
    }

    #[test]
    fn an_id_is_found_wherever_it_is_in_json() {
        let named = named();
        for json in [format!("{{\"a\":{{\"b\":\"{ADA}\"}}}}"), format!("[\"{BELA}\",\"{ADA}\"]"), ADA.to_owned()] {
            assert!(named.in_json(json.as_bytes()), "{json}");
        }
        for json in [format!("{{\"a\":\"{BELA}\"}}"), String::new(), ADA[1..].to_owned(), "-".repeat(99)] {
            assert!(!named.in_json(json.as_bytes()), "{json}");
        }
    }

    #[test]
    fn a_waiting_enrolment_ends_without_a_name_and_others_stay() {
        let work = |crop| named().work(Stage::Embed, &v1::CropOnly { crop: Some(crop) }.encode_to_vec().into());
        let Work::Replaced(ending) = work(crop("office", "ada-7")) else { panic!("it names her") };
        assert_eq!(ending.ending.unwrap().reason, "identity_conflict");
        let crop_of = ending.crop.unwrap();
        assert_eq!((crop_of.subject_id.as_str(), crop_of.person_name.as_str()), ("", ""));
        for other in [crop("office", "ada-70"), crop("lab", "ada-7"), crop("office", "")] {
            assert_eq!(work(other), Work::Other);
        }
        assert_eq!(named().work(Stage::Match, &Bytes::from_static(b"\xFFada-7")), Work::Other);
    }

    #[test]
    fn an_ending_loses_whom_it_names_and_nobody_else() {
        assert_eq!(of(&verdict(true, ADA, BELA)).unwrap().ending.unwrap().verdict, None);
        let second = of(&verdict(true, BELA, ADA)).unwrap().ending.unwrap().verdict.unwrap();
        assert_eq!((second.best, second.runner_up), (candidate(BELA), None));
        let nearest = of(&verdict(false, ADA, BELA)).unwrap().ending.unwrap().verdict.unwrap();
        assert_eq!((nearest.best, nearest.runner_up), (None, candidate(BELA)));
        assert_eq!(of(&verdict(true, BELA, BELA)), None);

        let mut enrolled = verdict(false, BELA, BELA);
        let ending = enrolled.ending.as_mut().unwrap();
        (ending.person_id, ending.face_id) = (ADA.to_owned(), BELA.to_owned());
        let ending = of(&enrolled).unwrap().ending.unwrap();
        assert_eq!((ending.person_id.as_str(), ending.face_id.as_str()), ("", ""));

        let candidates = [ADA, BELA].map(|person| candidate(person).unwrap()).to_vec();
        let reply_only = Some(v1::ReplyOnly { candidates, ..v1::ReplyOnly::default() });
        let told = of(&v1::EnrichTask { reply_only, ..verdict(true, BELA, BELA) }).unwrap().reply_only.unwrap();
        assert_eq!(told.candidates, [candidate(BELA).unwrap()]);
    }

    #[test]
    fn a_letter_is_read_as_what_died() {
        let headers = [(headers::SUBJECT.to_owned(), "ada-7".to_owned())].into();
        let letter = |subject: &str| v1::DeadLetter { subject: subject.to_owned(), ..v1::DeadLetter::default() };
        let crop_of =
            |subject: &str| v1::DeadLetter { headers: std::collections::HashMap::clone(&headers), ..letter(subject) };
        assert!(named().letter(Stage::Ingest, &crop_of("crops.office.door")));
        assert!(!named().letter(Stage::Ingest, &crop_of("crops.lab.door")));
        assert!(!named().letter(Stage::Ingest, &letter("crops.office.door")));
        let payload = v1::CropOnly { crop: Some(crop("office", "ada-7")) }.encode_to_vec().into();
        assert!(named().letter(Stage::Match, &v1::DeadLetter { payload, ..letter("stage.match.office") }));
    }
}
