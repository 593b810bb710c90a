//! Who is refused for another person's face, from values alone.

use facewire_domain::{CropId, Hit, ImageHash};
use time::OffsetDateTime;

use super::*;

/// A face at an angle: its similarity to another is the cosine of what lies between them.
fn candidate(subject: &str, degrees: f32, conflict_from: Option<f32>) -> Candidate {
    let face = NewFace {
        collection: "office".parse().unwrap(),
        subject: subject.parse().unwrap(),
        name: None,
        image_hash: ImageHash::of(&degrees.to_le_bytes()),
        asset: None,
        embedding: vec![degrees.to_radians().cos(), degrees.to_radians().sin()],
        model: "m".to_owned(),
        bounding_box: None,
        landmarks: None,
        quality: None,
        crop: None,
        captured_at: OffsetDateTime::UNIX_EPOCH,
    };
    Candidate { face, conflict_from }
}

fn own(candidates: &[Candidate]) -> Vec<PersonId> {
    candidates.iter().map(|c| PersonId::derive(&c.face.collection, &c.face.subject)).collect()
}

fn done() -> Option<Enrolled> {
    Some(Enrolled::Done {
        person: own(&[candidate("a", 0.0, None)])[0],
        face: FaceId::of_crop(CropId::from(uuid::Uuid::nil()), 0),
        before: false,
    })
}

fn verdicts(candidates: &[Candidate], hits: &[Vec<Hit>], answers: &[Option<Enrolled>]) -> String {
    let judged = judge(candidates, &own(candidates), hits, answers);
    judged
        .iter()
        .map(|judged| match judged {
            Judged::Later => 'l',
            Judged::Fit => 'f',
            Judged::Refused(_) => 'r',
        })
        .collect()
}

const LIMIT: Option<f32> = Some(0.9);

#[test]
fn a_face_of_another_in_the_gallery_is_refused_and_ones_own_is_not() {
    let batch = [candidate("a", 0.0, LIMIT), candidate("b", 90.0, LIMIT), candidate("c", 45.0, None)];
    let hit =
        |person, similarity| Hit { face: FaceId::of_crop(CropId::from(uuid::Uuid::nil()), 0), person, similarity };
    let owners = own(&batch);
    let hits = [vec![hit(owners[0], 1.0)], vec![hit(owners[0], 0.95)], vec![hit(owners[0], 1.0)]];
    assert_eq!(verdicts(&batch, &hits, &[None, None, None]), "frf", "the third asks for nothing");
    let judged = judge(&batch, &owners, &hits, &[None, None, None]);
    assert_eq!(judged[1], Judged::Refused(Conflict::Lookalike { similarity: 0.95, limit: 0.9 }));
}

#[test]
fn lookalikes_of_one_batch_meet() {
    let batch = [candidate("a", 0.0, LIMIT), candidate("b", 10.0, LIMIT), candidate("a", 5.0, LIMIT)];
    let none = vec![Vec::new(); 3];
    assert_eq!(verdicts(&batch, &none, &[None, None, None]), "fll", "the others wait for what becomes of those before");
    assert_eq!(verdicts(&batch, &none, &[done(), None, done()]), "lrl", "the first was enrolled");
    let refused = Some(Enrolled::Conflict(Conflict::NameTaken));
    assert_eq!(verdicts(&batch, &none, &[refused, None, done()]), "lfl", "the first was refused itself");
}

#[test]
fn galleries_do_not_meet() {
    let mut batch = [candidate("a", 0.0, LIMIT), candidate("b", 0.0, LIMIT)];
    batch[1].face.collection = "vault".parse().unwrap();
    assert_eq!(verdicts(&batch, &[Vec::new(), Vec::new()], &[None, None]), "ff");
}

#[test]
fn every_round_decides_somebody() {
    // A chain in which each is like the one before: the first is decided in each round, whatever the others wait for.
    let batch: Vec<Candidate> = (0..8_u8).map(|n| candidate(&format!("s{n}"), f32::from(n) * 20.0, LIMIT)).collect();
    let none = vec![Vec::new(); batch.len()];
    let mut answers: Vec<Option<Enrolled>> = vec![None; batch.len()];
    for round in 0.. {
        assert!(round <= batch.len());
        let judged = judge(&batch, &own(&batch), &none, &answers);
        let mut decided = 0;
        for (answer, judged) in answers.iter_mut().zip(judged) {
            match judged {
                Judged::Fit => *answer = done(),
                Judged::Refused(conflict) => *answer = Some(Enrolled::Conflict(conflict)),
                Judged::Later => continue,
            }
            decided += 1;
        }
        if answers.iter().all(Option::is_some) {
            break;
        }
        assert!(decided > 0);
    }
    let enrolled: Vec<bool> = answers.iter().map(|answer| matches!(answer, Some(Enrolled::Done { .. }))).collect();
    assert_eq!(enrolled, [true, false, true, false, true, false, true, false]);
}
