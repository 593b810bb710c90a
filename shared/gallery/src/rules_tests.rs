//! Who decides what a match needs, in which order, and by how many faces.

use super::*;
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

/// As `match` has them by default.
fn options() -> RuleOptions {
    RuleOptions {
        fpir: 0.01,
        threshold: None,
        margin: None,
        conflict_fpir: 0.001,
        conflict_similarity: None,
        against: Against::Faces,
        collections: HashMap::new(),
    }
}

/// In a gallery of so many faces, two of each person, one of which is an exemplar.
fn rules<'a>(options: &'a RuleOptions, pack: Option<&'a Arc<Calibration>>, faces: u64) -> Rules<'a> {
    let people = faces.div_ceil(2);
    let size = GallerySize { people, faces, exemplars: people };
    let sizes = HashMap::from([("office".parse().unwrap(), size)]);
    Rules { options, model: "pack@1", pack, stored: Arc::default(), sizes }
}

fn of(rules: &Rules<'_>, asked: &Asked) -> Result<Applied, Unruled> {
    rules.rule(asked, &"office".parse().unwrap(), Some(&"door".parse().unwrap()))
}

#[test]
fn the_threshold_grows_with_the_gallery() {
    let (options, pack) = (options(), calibration("pack-1", 0.3));
    let thresholds = [0, 1, 10, 100, 100_000].map(|faces| {
        let applied = of(&rules(&options, Some(&pack), faces), &Asked::default()).unwrap();
        assert_eq!((applied.decided_by.as_str(), applied.fpir), ("pack-1", Some(0.01)));
        assert_eq!((u64::from(applied.people), u64::from(applied.faces)), (faces.div_ceil(2), faces));
        assert_eq!(applied.rule.margin, 0.04);
        applied.rule.threshold
    });
    assert_eq!(thresholds[0], thresholds[1]);
    assert!(thresholds.windows(2).skip(1).all(|pair| pair[1] > pair[0] + 0.09), "{thresholds:?}");
    let office = "office".parse().unwrap();
    let conflict = rules(&options, Some(&pack), 10).conflict(&office, Some(&"door".parse().unwrap())).unwrap().unwrap();
    assert!((conflict - thresholds[3]).abs() < 1e-3, "a tenth of the rate asks for as much as ten times the faces");
}

#[test]
fn what_is_nearer_to_the_crop_decides() {
    let pack = calibration("pack-1", 0.3);
    let mut options = RuleOptions { threshold: Some(0.5), margin: Some(0.0), ..options() };
    let asked = Asked { threshold: Some(0.9), fpir: None };
    let decided = |options: &RuleOptions, asked: &Asked| {
        let applied = of(&rules(options, Some(&pack), 10), asked).unwrap();
        assert!(applied.calibration.is_some() && applied.rule.margin == 0.0);
        (applied.rule.threshold, applied.decided_by, applied.fpir)
    };
    let none = Asked::default();
    assert_eq!(decided(&options, &none), (0.5, "configuration".to_owned(), None));
    let own = CollectionRule { fpir: Some(0.1), ..CollectionRule::default() };
    options.collections.insert("office".parse().unwrap(), own);
    let (threshold, by, fpir) = decided(&options, &none);
    assert_eq!((by.as_str(), fpir), ("pack-1", Some(0.1)), "its rate stands above everybody's threshold");
    assert!((threshold - 0.3).abs() < 0.01);
    options.collections.insert("office".parse().unwrap(), CollectionRule { threshold: Some(0.6), ..own });
    assert_eq!(decided(&options, &none), (0.6, "collection".to_owned(), None));
    assert_eq!(decided(&options, &asked), (0.9, "request".to_owned(), None));
}

#[test]
fn a_rate_that_is_asked_for_stands_above_every_threshold_but_the_requests() {
    let pack = calibration("pack-1", 0.3);
    let mut options = RuleOptions { threshold: Some(0.5), ..options() };
    let own = CollectionRule { threshold: Some(0.6), fpir: Some(0.1), against: None };
    options.collections.insert("office".parse().unwrap(), own);
    let asked = Asked { threshold: None, fpir: Some(0.01) };
    let applied = of(&rules(&options, Some(&pack), 10), &asked).unwrap();
    assert_eq!((applied.decided_by.as_str(), applied.fpir), ("pack-1", Some(0.01)));
    assert!((applied.rule.threshold - 0.4).abs() < 0.01, "a thousandth for each of ten faces: {applied:?}");
    assert!(of(&rules(&options, None, 10), &asked).is_err(), "no calibration, no threshold for a rate");
}

#[test]
fn two_faces_are_compared_as_in_a_gallery_of_one_person() {
    let (options, pack) = (options(), calibration("pack-1", 0.3));
    let office = "office".parse().unwrap();
    let many = rules(&options, Some(&pack), 1000);
    let compared = |fpir| many.verification(&Asked { threshold: None, fpir }, &office, None, 1).unwrap();
    for fmr in [1e-2, 1e-3, 1e-4] {
        let applied = compared(Some(fmr));
        assert!((applied.rule.threshold - pack.threshold_at_fmr(fmr)).abs() < 1e-6, "{fmr}: {applied:?}");
        assert_eq!((applied.people, applied.rule.margin, applied.fpir), (1, 0.0, Some(fmr)));
    }
    assert_eq!(compared(None).rule.threshold, pack.threshold_for(0.01, 1), "its rate is the operator's");
    let fixed = many.verification(&Asked { threshold: Some(0.7), fpir: None }, &office, None, 9).unwrap();
    assert_eq!((fixed.rule.threshold, fixed.decided_by.as_str()), (0.7, "request"));
}

#[test]
fn the_nearest_of_many_faces_needs_more_than_a_single_one() {
    let (options, pack) = (options(), calibration("pack-1", 0.3));
    let (rules, office) = (rules(&options, Some(&pack), 1000), "office".parse().unwrap());
    let of = |faces| rules.verification(&Asked { threshold: None, fpir: Some(0.01) }, &office, None, faces).unwrap();
    assert_eq!(of(10).rule.threshold, pack.threshold_for(0.01, 10));
    assert!((of(10).rule.threshold - 0.4).abs() < 0.001, "a thousandth for each of ten faces: {:?}", of(10));
    assert_eq!((of(10).people, of(10).faces, of(10).rule.margin), (1, 10, 0.0));
    assert_eq!(of(0).rule, of(1).rule, "whoever has no face that serves is like nobody");
}

#[test]
fn the_cameras_calibration_stands_above_the_collections_and_the_packs() {
    let (options, pack) = (options(), calibration("pack-1", 0.3));
    let (office, door): (CollectionId, CameraId) = ("office".parse().unwrap(), "door".parse().unwrap());
    let mut stored = Stored::new();
    let by = |stored: &Stored, camera: &CameraId| {
        let rules = Rules { stored: Arc::new(stored.clone()), ..rules(&options, Some(&pack), 10) };
        rules.rule(&Asked::default(), &office, Some(camera)).unwrap().decided_by
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
    let mut options = options();
    let asked = Asked { threshold: Some(0.9), fpir: None };
    let error = of(&rules(&options, None, 10), &Asked::default()).unwrap_err().to_string();
    for said in ["collection office", "pack@1", "facewire calibrate", "match.threshold"] {
        assert!(error.contains(said), "{error}");
    }
    assert_eq!(of(&rules(&options, None, 10), &asked).unwrap().decided_by, "request");
    assert!(rules(&options, None, 10).conflict(&office, Some(&door)).is_err());
    options.threshold = Some(0.5);
    let applied = of(&rules(&options, None, 10), &Asked::default()).unwrap();
    assert_eq!((applied.rule.margin, applied.calibration), (0.0, None));
    assert_eq!(rules(&options, None, 10).conflict(&office, Some(&door)), Ok(Some(0.5)));
    options.conflict_similarity = Some(1.0);
    assert_eq!(rules(&options, None, 10).conflict(&office, Some(&door)), Ok(None));
    options.conflict_similarity = Some(0.7);
    assert_eq!(rules(&options, None, 10).conflict(&office, Some(&door)), Ok(Some(0.7)));
    options.collections.insert(office, CollectionRule { fpir: Some(0.1), ..CollectionRule::default() });
    assert!(of(&rules(&options, None, 10), &Asked::default()).is_err(), "its rate needs a calibration");
}

#[test]
fn a_collections_own_word_says_which_faces_count() {
    let (office, garage): (CollectionId, CollectionId) = ("office".parse().unwrap(), "garage".parse().unwrap());
    let mut options = options();
    assert_eq!(options.against(&office), Against::Faces);
    let own = |against| CollectionRule { against: Some(against), ..CollectionRule::default() };
    options.collections.insert(office.clone(), own(Against::Prototypes));
    assert_eq!((options.against(&office), options.against(&garage)), (Against::Prototypes, Against::Faces));
    options.against = Against::Prototypes;
    options.collections.insert(office.clone(), own(Against::Faces));
    assert_eq!((options.against(&office), options.against(&garage)), (Against::Faces, Against::Prototypes));
    options.collections.insert(office.clone(), CollectionRule { threshold: Some(0.5), ..CollectionRule::default() });
    assert_eq!(options.against(&office), Against::Prototypes);
}
