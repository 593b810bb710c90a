//! Which pairs are made of a small sample, and what of each face is told.

use facewire_domain::{CameraId, ImageHash};
use uuid::Uuid;

use super::super::sample::Faces;
use super::*;

/// A person of a test.
fn person(number: u128) -> PersonId {
    PersonId::from(Uuid::from_u128(number))
}

/// A face by its number; its direction is an angle in the plane, in degrees.
fn add(faces: &mut Faces, number: u64, of: u128, angle: f32, seen: bool) {
    add_of(faces, (number, number), of, angle, seen);
}

/// The same with the number of its picture.
fn add_of(faces: &mut Faces, (number, image): (u64, u64), of: u128, angle: f32, seen: bool) {
    let id = FaceId::from(Uuid::from_u128(u128::from(number)));
    let face = Face { id, person: person(of), image: ImageHash::of(&image.to_be_bytes()), quality: None, seen };
    faces.push(face, &[angle.to_radians().cos(), angle.to_radians().sin()]).unwrap();
}

/// Nobody said anything.
fn silent(camera: Option<&str>) -> Sample {
    Sample {
        camera: camera.map(|camera| camera.parse::<CameraId>().unwrap()),
        confirmed: Faces::new(2),
        probes: 0,
        refused: Faces::new(2),
        left_out: 0,
        of_no_camera: 0,
    }
}

/// Degrees between the faces of each pair, in order.
fn degrees(similarities: &[f32]) -> Vec<i32> {
    let mut degrees: Vec<i32> =
        similarities.iter().map(|similarity| similarity.clamp(-1.0, 1.0).acos().to_degrees().round() as i32).collect();
    degrees.sort_unstable();
    degrees
}

/// Person 1 is at 0° and 10° (seen), person 2 at 40° (seen) and 100°.
fn four(camera: Option<&str>) -> Sample {
    let mut sample = silent(camera);
    for (number, of, angle, seen) in [(1, 1, 10.0, true), (2, 2, 40.0, true), (3, 1, 0.0, false), (4, 2, 100.0, false)]
    {
        add(&mut sample.confirmed, number, of, angle, seen);
    }
    sample.probes = if camera.is_some() { 2 } else { 4 };
    sample
}

#[test]
fn of_a_camera_one_of_each_pair_is_seen_by_it() {
    let of_all = pairs(&four(None)).unwrap();
    assert_eq!(degrees(&of_all.genuine), [10, 60]);
    assert_eq!(degrees(&of_all.impostor), [30, 40, 90, 100]);
    let of_door = pairs(&four(Some("door"))).unwrap();
    assert_eq!(degrees(&of_door.genuine), [10, 60]);
    assert_eq!(degrees(&of_door.impostor), [30, 40, 90], "those enrolled are not compared with each other");
    assert_eq!(
        (degrees(&of_all.alike.similarities()), &of_door.alike),
        (vec![30], &of_all.alike),
        "one pair of people"
    );
    for found in [&of_all, &of_door] {
        // Of the first the own person is nearest; of the second the other one.
        let answers: Vec<bool> = found.answers().into_iter().map(|(_, right)| right).collect();
        assert_eq!((answers, found.seen.len()), (vec![true, false], 2));
        assert_eq!(degrees(&[found.seen[0].own.unwrap(), found.seen[0].other.unwrap().0]), [10, 30]);
    }
}

#[test]
fn two_faces_of_one_picture_make_no_pair() {
    let mut sample = silent(None);
    add_of(&mut sample.confirmed, (1, 7), 1, 0.0, true);
    add_of(&mut sample.confirmed, (2, 7), 1, 0.0, false);
    add_of(&mut sample.confirmed, (3, 8), 1, 20.0, false);
    add_of(&mut sample.refused, (4, 8), 1, 20.0, true);
    sample.probes = 3;
    let found = pairs(&sample).unwrap();
    assert_eq!((degrees(&found.genuine), degrees(&found.refused)), (vec![20, 20], vec![20, 20]));
    assert_eq!(degrees(&[found.seen[0].own.unwrap(), found.refusals[0].nearest]), [20, 20]);
}

#[test]
fn a_refused_pair_is_counted_once() {
    let mut sample = four(None);
    // A stranger who is not person 1, and two faces of person 2 who are not person 1 either: they are confirmed.
    add(&mut sample.refused, 9, 1, 25.0, true);
    add(&mut sample.refused, 2, 1, 40.0, true);
    add(&mut sample.refused, 4, 1, 100.0, false);
    // Nobody's face is compared with nobody.
    add(&mut sample.refused, 10, 3, 0.0, true);
    let found = pairs(&sample).unwrap();
    assert_eq!(degrees(&found.impostor), [30, 40, 90, 100]);
    assert_eq!(degrees(&found.refused), [15, 25], "the others are among the pairs of two people");
    let told: Vec<(i32, bool)> = found.refusals.iter().map(|r| (degrees(&[r.nearest])[0], r.told)).collect();
    assert_eq!(told, [(15, false), (30, true)], "of what a camera saw");
    // The stranger is wrong once more; the confirmed face is one wrong answer and not two.
    let wrong: Vec<f32> = found.answers().into_iter().filter(|(_, right)| !right).map(|(best, _)| best).collect();
    assert_eq!(degrees(&wrong), [15, 30]);
}

#[test]
fn a_refused_face_that_the_camera_did_not_see_is_compared_with_what_it_saw() {
    let mut sample = four(Some("door"));
    add(&mut sample.refused, 9, 1, 25.0, false);
    add(&mut sample.refused, 10, 1, 65.0, true);
    let found = pairs(&sample).unwrap();
    assert_eq!(degrees(&found.refused), [15, 55, 65]);
    assert_eq!(found.refusals.len(), 1);
}
