//! `facewire calibrate --corrections` as a person runs it, on made-up embeddings whose similarities are known: a sample that is too
//! small is refused with numbers; one that is large enough gives its camera a table that never is below today's, and leaves the
//! gate as it was.

use std::path::Path;
use std::process::{Command, Output};

use facewire_config::Secret;
use facewire_devstack::testing;
use facewire_domain::{Calibration, CropId, FaceId, ImageHash, Intent, PersonId};
use facewire_inference::builtin_manifest;
use facewire_store_pg::{
    Actor, Assignment, AuditFilter, CropHead, KeptFace, NewCalibration, NewCrop, NewFace, Options, Store,
    StoredCalibration,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// People of a sample that is large enough, which is of 40: one face enrolled, two seen by the door and one by the hall.
const PEOPLE: usize = 40;
/// Of the embeddings' numbers the first is what all faces share; then one for each person, and one for each face.
const PERSON: usize = 1;
const FACE: usize = 100;

/// The default pack, which the commands use.
fn pack() -> (String, usize, Calibration) {
    let manifest = builtin_manifest("default").unwrap();
    (manifest.fingerprint(), manifest.embedder.dim, manifest.calibration.clone().unwrap())
}

/// The collections of one test, and every embedding that was stored.
struct World {
    store: Store,
    model: String,
    dim: usize,
    /// Largest share of what all faces have in common: two strangers are at most as similar as its square.
    alike: f32,
    stored: usize,
}

impl World {
    /// The next face of a person: what it shares with everybody differs from face to face.
    fn embedding(&mut self, person: usize) -> Vec<f32> {
        let number = self.stored;
        let place = (number * 61 % 409) as f32 / 409.0;
        let shared = self.alike * (0.6 + 0.4 * place);
        let rest = (1.0 - shared * shared).sqrt();
        self.direction(&[(0, shared), (PERSON + person, 0.8 * rest)], 0.6 * rest)
    }

    /// A direction of its own besides those that are given.
    fn direction(&mut self, parts: &[(usize, f32)], own: f32) -> Vec<f32> {
        let mut embedding = vec![0.0; self.dim];
        parts.iter().for_each(|(place, part)| embedding[*place] = *part);
        embedding[FACE + self.stored] = own;
        self.stored += 1;
        embedding
    }

    /// A crop of a camera, and a kept face of it.
    async fn keep(&mut self, collection: &str, camera: &str, embedding: Vec<f32>) -> FaceId {
        let (collection, camera) = (collection.parse().unwrap(), camera.parse().unwrap());
        let image_hash = ImageHash::of(&self.stored.to_be_bytes());
        let at = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        let crop = CropId::derive(&collection, &camera, at, &image_hash);
        let (intent, subject) = (Intent::Recognize, None);
        let head = CropHead {
            crop,
            collection: collection.clone(),
            camera,
            captured_at: at,
            received_at: at,
            image_hash,
            intent,
            subject,
            frame: false,
        };
        let (format, size) = (Some("jpeg".to_owned()), Some((112, 112)));
        let admitted = [NewCrop { head, bytes: 1000, format, size, asset: None }];
        assert!(self.store.admit(&admitted).await.unwrap().iter().all(Result::is_ok));
        let face = KeptFace {
            face: FaceId::of_crop(crop, 0),
            collection,
            crop,
            face_index: 0,
            image_hash,
            asset: None,
            embedding,
            model: self.model.clone(),
            bounding_box: None,
            landmarks: None,
            quality: None,
            captured_at: at,
            matched: None,
        };
        let id = face.face;
        assert!(self.store.keep_faces(&[face]).await.unwrap().iter().all(Result::is_ok));
        id
    }

    /// Enrols a person of this number.
    async fn enrol(&mut self, collection: &str, person: usize) -> (PersonId, Vec<f32>) {
        let (collection, subject) = (collection.parse().unwrap(), format!("p{person}").parse().unwrap());
        let id = PersonId::derive(&collection, &subject);
        let embedding = self.embedding(person);
        let face = NewFace {
            collection,
            subject,
            name: None,
            image_hash: ImageHash::of(format!("enrolled {}", self.stored).as_bytes()),
            asset: None,
            embedding: embedding.clone(),
            model: self.model.clone(),
            bounding_box: None,
            landmarks: None,
            quality: None,
            crop: None,
            captured_at: OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap(),
        };
        assert!(self.store.begin_enrolment(&[face]).await.unwrap().iter().all(Result::is_ok));
        (id, embedding)
    }

    /// People with an enrolled face and confirmed ones of these cameras. Their embeddings: those of the door, and the others.
    async fn people(&mut self, collection: &str, people: usize, cameras: &[&str]) -> [Vec<(usize, Vec<f32>)>; 2] {
        let (mut door, mut others) = (Vec::new(), Vec::new());
        for person in 0..people {
            let (id, enrolled) = self.enrol(collection, person).await;
            others.push((person, enrolled));
            let mut faces = Vec::new();
            for camera in cameras {
                let embedding = self.embedding(person);
                faces.push(self.keep(collection, camera, embedding.clone()).await);
                let of = if *camera == "door" { &mut door } else { &mut others };
                of.push((person, embedding));
            }
            let (collection, to) = (collection.parse().unwrap(), Assignment::to(Some(id)));
            self.store.assign_faces(&collection, &faces, to, &Actor::named("a test")).await.unwrap().unwrap();
        }
        [door, others]
    }

    /// Strangers whom the door took for each of the people, as they were told.
    async fn refuse(&mut self, collection: &str, people: usize) {
        for person in 0..people {
            let embedding = self.direction(&[(PERSON + person, 0.75)], (1.0f32 - 0.75 * 0.75).sqrt());
            let face = self.keep(collection, "door", embedding).await;
            let id = PersonId::derive(&collection.parse().unwrap(), &format!("p{person}").parse().unwrap());
            assert!(self.store.set_negative(face, id, &Actor::named("a test")).await.unwrap());
        }
    }
}

fn facewire(data: &Path, url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facewire"));
    command.arg("--data").arg(data.join("no-stack")).args(["--postgres", url, "calibrate"]).args(arguments);
    command.env_remove("FACEWIRE_CONFIG").output().unwrap()
}

#[track_caller]
fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn report(output: &Output) -> Value {
    serde_json::from_str(&text(output)).unwrap()
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Rate and threshold of each point.
fn points(report: &Value) -> Vec<(f64, f64)> {
    let table = report["calibration"]["table"].as_array().unwrap();
    table.iter().map(|point| (point["fmr"].as_f64().unwrap(), point["threshold"].as_f64().unwrap())).collect()
}

/// Similarities of pairs of two people of which one at least is of the door, the most similar first.
fn impostors([door, others]: &[Vec<(usize, Vec<f32>)>; 2]) -> Vec<f64> {
    let mut all = Vec::new();
    for (place, (person, probe)) in door.iter().enumerate() {
        for (_, face) in door.iter().skip(place + 1).chain(others).filter(|(other, _)| other != person) {
            all.push(probe.iter().zip(face).map(|(a, b)| f64::from(a * b)).sum());
        }
    }
    all.sort_unstable_by(|a: &f64, b: &f64| b.total_cmp(a));
    all
}

async fn world(url: &str, alike: f32) -> World {
    let store = Store::connect(&Options { url: Secret::new(url), ..Options::default() }).await.unwrap();
    store.migrate().await.unwrap();
    let (model, dim, _) = pack();
    World { store, model, dim, alike, stored: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_corrections_are_refused_with_what_would_be_needed() {
    let (database, data) = (testing::database().await.unwrap(), tempfile::tempdir().unwrap());
    let url = database.url();
    let mut world = world(&url, 0.7).await;
    world.people("office", 3, &["door", "hall"]).await;
    world.refuse("office", 2).await;
    let ask = |arguments: &[&str]| {
        let place = ["--corrections", "--collection", "office", "--camera", "door"];
        refused(&facewire(data.path(), &url, &[&place[..], arguments].concat()))
    };
    let said = ask(&[]);
    for word in
        ["3 confirmed faces seen by camera door", "30 are needed", "9 faces of 3 people", "2 refused", "keep_faces"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    // As many as asked for, but they make too few pairs: 3 of two people among the door's, and 12 with the others.
    let said = ask(&["--least", "3"]);
    for word in [
        "too small: 3 people (3 of them seen)",
        "9 confirmed faces",
        "6 pairs of one person, 15 of two",
        "40 people are needed",
        "3000 pairs",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    // What was said before is not asked for.
    let said = ask(&["--least", "3", "--since", "2100-01-01T00:00:00Z"]);
    assert!(said.contains("0 confirmed faces seen") && said.contains("3 faces of 3 people"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn corrections_of_a_camera_make_its_table_and_leave_its_gate() {
    let (database, data) = (testing::database().await.unwrap(), tempfile::tempdir().unwrap());
    let url = database.url();
    let mut world = world(&url, 0.7).await;
    let (model, _, usual) = pack();
    let faces = world.people("office", PEOPLE, &["door", "door", "hall"]).await;
    let ask = |arguments: &[&str]| {
        let place = ["--corrections", "--collection", "office", "--camera", "door"];
        facewire(data.path(), &url, &[&place[..], arguments].concat())
    };
    // A folder's calibration of the camera's gate is in force.
    let gate = json!({ "min_blur": 12.5 });
    let by_folder = NewCalibration {
        version: "by-folder".to_owned(),
        collection: "office".parse().unwrap(),
        camera: Some("door".parse().unwrap()),
        model: model.clone(),
        document: StoredCalibration { matching: None, gate: Some(gate.clone()) },
    };
    assert!(world.store.save_calibration(&by_folder).await.unwrap());
    assert!(world.store.apply_calibration("by-folder", &Actor::named("a test")).await.unwrap());

    let shown = text(&ask(&[]));
    for word in [
        "160 confirmed faces of 40 people, 80 of them seen by camera door; 0 refused",
        "200 pairs of one person, 9360 of two",
        "default-lfw-view1-1",
        "who was missed is rarely",
        "limits of the gate stay as they are",
        "No threshold is below today's",
        "TOO SMALL",
        "nothing was changed",
    ] {
        assert!(shown.contains(word), "{word}\n{shown}");
    }
    let alone = report(&ask(&["--json"]));
    let similarities = impostors(&faces);
    assert_eq!(alone["calibration"]["impostor"], similarities.len());
    assert_eq!(alone["calibration"]["confidence"], json!(usual.confidence), "nobody was wrong: today's stays");
    let table = points(&alone);
    for ((rate, threshold), most) in table.iter().zip([936, 93]) {
        // The most errors that the rate allows are at the threshold and above it.
        let (last, next) = (similarities[most - 1], similarities[most]);
        assert!((next - 1e-5..=last + 1e-5).contains(threshold), "{rate}: {threshold}, not {next} to {last}");
    }
    // Behind what the sample measures today's table goes on, raised as there.
    let above = |(rate, threshold): &(f64, f64)| threshold - f64::from(usual.threshold_at_fmr(*rate));
    let raised = |table: &[(f64, f64)]| table[1..].iter().all(|point| (above(point) - above(&table[1])).abs() < 1e-5);
    assert!(table.len() > 4 && above(&table[1]) > 0.0 && raised(&table), "{table:?}");
    let notes = alone["notes"].to_string();
    assert!(notes.contains("Behind FMR 1e-2 the table is that of default-lfw-view1-1, moved by +"), "{notes}");

    // Refused faces raise what they are alike enough for, and count as wrong.
    world.refuse("office", PEOPLE).await;
    let applied = report(&ask(&["--apply", "--json"]));
    assert_eq!((&applied["applied"], &applied["sample"]["refused"]), (&json!(true), &json!(PEOPLE)));
    assert_eq!(applied["sample"]["refused_pairs"], 4 * PEOPLE);
    assert_eq!(applied["calibration"]["impostor"], similarities.len());
    let with_refused = points(&applied);
    assert!(with_refused[1].1 > table[1].1 + 0.01, "{with_refused:?}, without {table:?}");
    assert!(with_refused.iter().zip(&table).all(|(with, without)| with.1 >= without.1), "{with_refused:?}");
    assert!(applied["calibration"]["confidence"]["slope"].as_f64().unwrap() > 0.0);
    assert_ne!(applied["calibration"]["confidence"], alone["calibration"]["confidence"]);
    // A probe is compared with every face but itself, whoever they are of: as in the gallery that the confidence is used in.
    assert_eq!(applied["calibration"]["confidence"]["people"], 4 * PEOPLE - 1);

    // In force at the camera, with the gate that it had.
    let version = applied["calibration"]["version"].as_str().unwrap();
    assert!(version.starts_with("office-door-20"), "{version}");
    let in_force = world.store.calibrations_in_force(&model).await.unwrap();
    assert_eq!(in_force.len(), 1);
    let row = &in_force[0];
    assert_eq!((row.version.as_str(), row.camera.as_ref().unwrap().as_str()), (version, "door"));
    assert_eq!(row.document.gate.as_ref(), Some(&gate));
    let kept = row.document.matching.as_ref().unwrap();
    let made: Calibration = serde_json::from_value(applied["calibration"].clone()).unwrap();
    assert_eq!(kept.table, made.table);
    assert!(kept.data.starts_with("corrections: 40 people") && kept.data.contains("40 refused"), "{}", kept.data);
    let filter = AuditFilter { kind: Some("calibration.applied".to_owned()), ..AuditFilter::default() };
    let told = world.store.audit_trail(&filter, None, 10).await.unwrap();
    assert_eq!(told.len(), 2, "the folder's and this one");
    assert_eq!((told[0].actor.name.as_str(), &told[0].detail["version"]), ("facewire calibrate", &json!(version)));
    assert_eq!(told[0].detail["impostor"], similarities.len());
    let again = report(&ask(&["--json"]));
    assert_eq!((&again["today"]["decided_by"], &again["applied"]), (&json!(version), &json!(false)));
    let listed = text(&facewire(data.path(), &url, &["--list"]));
    assert!(listed.contains(version) && listed.contains("in force"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn corrections_lower_a_threshold_only_where_it_is_asked_for() {
    let (database, data) = (testing::database().await.unwrap(), tempfile::tempdir().unwrap());
    let url = database.url();
    // Two strangers are hardly alike: far below the pack's thresholds.
    let mut world = world(&url, 0.1).await;
    let (_, _, usual) = pack();
    world.people("office", PEOPLE, &["door", "door", "hall"]).await;
    let ask = |arguments: &[&str]| {
        let place = ["--corrections", "--collection", "office", "--json"];
        report(&facewire(data.path(), &url, &[&place[..], arguments].concat()))
    };
    let usual_points: Vec<(f64, f64)> =
        usual.table.iter().map(|point| (point.fmr, f64::from(point.threshold))).collect();
    let near = |a: &[(f64, f64)], b: &[(f64, f64)]| a.iter().zip(b).all(|(a, b)| (a.1 - b.1).abs() < 1e-6);
    let default = points(&ask(&[]));
    assert!(default.len() >= usual_points.len() && near(&usual_points, &default), "{default:?}");
    // Without a camera those enrolled are compared with each other too, and three cameras' faces of each person count as seen.
    let lower = ask(&["--may-lower"]);
    assert_eq!((&lower["sample"]["seen"], &lower["sample"]["confirmed"]), (&json!(3 * PEOPLE), &json!(4 * PEOPLE)));
    assert_eq!(lower["sample"]["impostor"], 160 * 159 / 2 - 40 * 6);
    let table = points(&lower);
    assert_eq!(table[..2].iter().map(|point| point.0).collect::<Vec<_>>(), [1e-1, 1e-2]);
    assert!(table[..2].iter().all(|(_, threshold)| *threshold < 0.02), "{table:?}");
    // Behind that, as far below today's as there.
    let below = |place: usize| usual_points[place].1 - table[place].1;
    assert!((2..usual_points.len()).all(|place| (below(place) - below(1)).abs() < 1e-5), "{table:?}");
}
