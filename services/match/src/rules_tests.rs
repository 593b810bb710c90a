//! Who decides what a match needs, in which order, and by how many people.

use super::*;
use crate::options::CollectionOptions;
use facewire_domain::FmrPoint;

/// Each tenth of the rate is 0.1 of similarity.
fn calibration(version: &str, lowest: f32) -> Arc<Calibration> {
    let point = |fmr, threshold| FmrPoint { fmr, threshold };
    Arc::new(Calibration {
        version: version.to_owned(),
        data: "by hand".to_owned(),
        people: 10,
        genuine: 10,
        impostor: 1000,
        margin: 0.04,
        table: vec![point(1e-2, lowest), point(1e-3, lowest + 0.1)],
        confidence: None,
    })
}

fn rules<'a>(options: &'a Options, pack: Option<&'a Arc<Calibration>>, people: u32) -> Rules<'a> {
    let people = HashMap::from([("office".parse().unwrap(), people)]);
    Rules { options, model: "pack@1", pack, stored: Arc::default(), people }
}

fn of(rules: &Rules<'_>, crop: &v1::Crop) -> Result<Applied, Unruled> {
    rules.rule(crop, &"office".parse().unwrap(), &"door".parse().unwrap())
}

#[test]
fn the_threshold_grows_with_the_gallery() {
    let (options, pack) = (Options::default(), calibration("pack-1", 0.3));
    let thresholds = [0, 1, 10, 100, 100_000].map(|people| {
        let applied = of(&rules(&options, Some(&pack), people), &v1::Crop::default()).unwrap();
        assert_eq!((applied.decided_by.as_str(), applied.fpir, applied.people), ("pack-1", Some(0.01), people));
        assert_eq!(applied.rule.margin, 0.04);
        applied.rule.threshold
    });
    assert_eq!(thresholds[0], thresholds[1]);
    assert!(thresholds.windows(2).skip(1).all(|pair| pair[1] > pair[0] + 0.09), "{thresholds:?}");
    let office = "office".parse().unwrap();
    let conflict = rules(&options, Some(&pack), 10).conflict(&office, &"door".parse().unwrap()).unwrap().unwrap();
    assert!((conflict - thresholds[3]).abs() < 1e-3, "a tenth of the rate asks for as much as ten times the people");
}

#[test]
fn what_is_nearer_to_the_crop_decides() {
    let pack = calibration("pack-1", 0.3);
    let mut options = Options { threshold: Some(0.5), margin: Some(0.0), ..Options::default() };
    let crop = v1::Crop { threshold: Some(0.9), ..v1::Crop::default() };
    let decided = |options: &Options, crop: &v1::Crop| {
        let applied = of(&rules(options, Some(&pack), 10), crop).unwrap();
        assert!(applied.calibration.is_some() && applied.rule.margin == 0.0);
        (applied.rule.threshold, applied.decided_by, applied.fpir)
    };
    let none = v1::Crop::default();
    assert_eq!(decided(&options, &none), (0.5, "configuration".to_owned(), None));
    let own = CollectionOptions { threshold: None, fpir: Some(0.1) };
    options.collections.insert("office".parse().unwrap(), own);
    let (threshold, by, fpir) = decided(&options, &none);
    assert_eq!((by.as_str(), fpir), ("pack-1", Some(0.1)), "its rate stands above everybody's threshold");
    assert!((threshold - 0.3).abs() < 0.01);
    options.collections.insert("office".parse().unwrap(), CollectionOptions { threshold: Some(0.6), ..own });
    assert_eq!(decided(&options, &none), (0.6, "collection".to_owned(), None));
    assert_eq!(decided(&options, &crop), (0.9, "request".to_owned(), None));
}

#[test]
fn the_cameras_calibration_stands_above_the_collections_and_the_packs() {
    let (options, pack) = (Options::default(), calibration("pack-1", 0.3));
    let (office, door): (CollectionId, CameraId) = ("office".parse().unwrap(), "door".parse().unwrap());
    let mut stored = Stored::new();
    let by = |stored: &Stored, camera: &CameraId| {
        let rules = Rules { stored: Arc::new(stored.clone()), ..rules(&options, Some(&pack), 10) };
        rules.rule(&v1::Crop::default(), &office, camera).unwrap().decided_by
    };
    stored.insert(("garage".parse().unwrap(), None), calibration("garage-1", 0.4));
    assert_eq!(by(&stored, &door), "pack-1");
    stored.insert((office.clone(), None), calibration("office-1", 0.4));
    assert_eq!(by(&stored, &door), "office-1");
    stored.insert((office.clone(), Some(door.clone())), calibration("door-1", 0.5));
    assert_eq!(by(&stored, &door), "door-1");
    assert_eq!(by(&stored, &"gate".parse().unwrap()), "office-1");
}

#[test]
fn without_a_calibration_somebody_must_say() {
    let (office, door): (CollectionId, CameraId) = ("office".parse().unwrap(), "door".parse().unwrap());
    let mut options = Options::default();
    let crop = v1::Crop { threshold: Some(0.9), ..v1::Crop::default() };
    let error = of(&rules(&options, None, 10), &v1::Crop::default()).unwrap_err().to_string();
    for said in ["collection office", "pack@1", "facewire calibrate", "match.threshold"] {
        assert!(error.contains(said), "{error}");
    }
    assert_eq!(of(&rules(&options, None, 10), &crop).unwrap().decided_by, "request");
    assert!(rules(&options, None, 10).conflict(&office, &door).is_err());
    options.threshold = Some(0.5);
    let applied = of(&rules(&options, None, 10), &v1::Crop::default()).unwrap();
    assert_eq!((applied.rule.margin, applied.calibration), (0.0, None));
    assert_eq!(rules(&options, None, 10).conflict(&office, &door), Ok(Some(0.5)));
    options.conflict_similarity = Some(1.0);
    assert_eq!(rules(&options, None, 10).conflict(&office, &door), Ok(None));
    options.conflict_similarity = Some(0.7);
    assert_eq!(rules(&options, None, 10).conflict(&office, &door), Ok(Some(0.7)));
    options.collections.insert(office, CollectionOptions { threshold: None, fpir: Some(0.1) });
    assert!(of(&rules(&options, None, 10), &v1::Crop::default()).is_err(), "its rate needs a calibration");
}
