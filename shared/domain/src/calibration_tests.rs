//! Calibrations: values that were worked out by hand, and what must hold of any table.

use super::*;
use proptest::prelude::*;

/// Each tenth of the rate is 0.1 of similarity.
fn sample() -> Calibration {
    let point = |fmr, threshold| FmrPoint { fmr, threshold };
    Calibration {
        version: "sample-1".to_owned(),
        data: "100 people by hand".to_owned(),
        people: 100,
        genuine: 500,
        impostor: 300_000,
        margin: 0.05,
        table: vec![point(1e-2, 0.3), point(1e-3, 0.4), point(1e-4, 0.5)],
        confidence: Some(Confidence { slope: 20.0, intercept: -8.0, faces: 100 }),
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

#[test]
fn a_threshold_lies_on_the_line_between_two_points() {
    let sample = sample();
    assert_eq!([1e-2, 1e-3, 1e-4].map(|fmr| sample.threshold_at_fmr(fmr)), [0.3, 0.4, 0.5]);
    // Half way between 1e-2 and 1e-3 in the logarithm.
    assert!(near(sample.threshold_at_fmr(10f64.powf(-2.5)).into(), 0.35));
    assert!(near(sample.threshold_at_fmr(1e-6).into(), 0.7), "the last two points go on");
    assert_eq!(sample.threshold_at_fmr(0.5), 0.3, "above the first rate, the first threshold");
    assert_eq!([1e-20, 0.0, -1.0, f64::NAN].map(|fmr| sample.threshold_at_fmr(fmr)), [1.0; 4]);
    assert!((sample.fmr_at(0.45) / 10f64.powf(-3.5) - 1.0).abs() < 1e-5);
    assert!((sample.fmr_at(0.7) / 1e-6 - 1.0).abs() < 1e-5);
    assert_eq!([sample.fmr_at(0.1), sample.fmr_at(f32::NAN)], [1e-2; 2]);
}

#[test]
fn a_larger_gallery_needs_a_higher_threshold() {
    let sample = sample();
    // 1 − 0.99^(1/10) = 1.00453e-3; ln of its ratio to 1e-3 over ln 10 is 0.00196: 0.1 of that below 0.4.
    assert!(near(sample.threshold_for(0.01, 10).into(), 0.399_803_6));
    assert_eq!(sample.threshold_for(0.01, 0), sample.threshold_for(0.01, 1));
    assert!(near(sample.threshold_for(0.01, 1).into(), 0.3));
    // A billion people: the rate is too small for 1 − x to hold it.
    let fmr = 0.010_050_335_853_501_44e-9;
    assert_eq!(sample.threshold_for(0.01, 1_000_000_000), sample.threshold_at_fmr(fmr));
}

#[test]
fn confidence_counts_who_could_be_best_by_chance() {
    let sample = sample();
    // 20 · 0.5 − 8 = 2: odds e².
    let odds = 2f64.exp();
    assert!(near(sample.confidence(0.5, 100).unwrap().into(), odds / (1.0 + odds)));
    // Ten times the faces, a tenth of the odds.
    assert!(near(sample.confidence(0.5, 1000).unwrap().into(), odds / (10.0 + odds)));
    assert_eq!(Calibration { confidence: None, ..sample }.confidence(0.5, 100), None);
}

#[test]
fn a_rate_needs_thirty_errors() {
    assert!(sample().supported(1e-4) && !sample().supported(0.99e-4));
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(sample().validate(), Ok(()));
    let point = |fmr, threshold| FmrPoint { fmr, threshold };
    let table = |points: &[FmrPoint]| Calibration { table: points.to_vec(), ..sample() };
    let fit = |slope, faces| Some(Confidence { slope, intercept: 0.0, faces });
    for (wrong, said) in [
        (Calibration { version: String::new(), ..sample() }, "version"),
        (Calibration { version: "a b".to_owned(), ..sample() }, "version"),
        (Calibration { version: "request".to_owned(), ..sample() }, "version"),
        (Calibration { data: "two\nlines".to_owned(), ..sample() }, "data"),
        (Calibration { impostor: 0, ..sample() }, "impostor"),
        (Calibration { margin: f32::NAN, ..sample() }, "margin"),
        (Calibration { margin: -0.1, ..sample() }, "margin"),
        (table(&[point(1e-3, 0.4)]), "at least 2"),
        (table(&[point(1e-3, 0.4), point(1e-3, 0.5)]), "does not fall"),
        (table(&[point(1e-3, 0.4), point(1e-4, 0.4)]), "does not rise"),
        (table(&[point(1.0, 0.4), point(1e-4, 0.5)]), "exclusive"),
        (table(&[point(f64::NAN, 0.4), point(1e-4, 0.5)]), "exclusive"),
        (table(&[point(1e-3, 0.4), point(1e-4, 1.5)]), "exclusive"),
        (Calibration { confidence: fit(0.0, 9), ..sample() }, "slope"),
        (Calibration { confidence: fit(f64::NAN, 9), ..sample() }, "slope"),
        (Calibration { confidence: fit(1.0, 0), ..sample() }, "faces 1 or more"),
    ] {
        let message = wrong.validate().unwrap_err();
        assert!(message.contains(said), "{said}: {message}");
    }
    let json = serde_json::to_string(&sample()).unwrap();
    assert_eq!(serde_json::from_str::<Calibration>(&json).unwrap(), sample());
    assert!(serde_json::from_str::<Calibration>(&json.replace("\"data\"", "\"date\"")).is_err());
}

#[test]
fn the_faces_of_a_confidence_are_written_as_the_release_before_reads_them() {
    let json = serde_json::to_string(&sample()).unwrap();
    let written = r#""intercept":-8.0,"people":100"#;
    assert!(json.contains(written), "{json}");
    let later = json.replace(written, r#""intercept":-8.0,"faces":100"#);
    assert_eq!(serde_json::from_str::<Calibration>(&later).unwrap(), sample());
}

/// Any table that is valid, its thresholds far enough apart for `f32`.
fn tables() -> impl Strategy<Value = Calibration> {
    let steps = prop::collection::vec((0.1f64..4.0, 0.01f32..0.2), 2..6);
    (0.0f32..0.2, -0.5f64..-0.01, steps).prop_map(|(low, start, steps)| {
        let (mut threshold, mut exponent) = (low, start);
        let table = steps.iter().map(|(down, up)| {
            (threshold, exponent) = ((threshold + up).min(1.0), exponent - down);
            FmrPoint { fmr: 10f64.powf(exponent), threshold }
        });
        Calibration { table: table.collect(), ..sample() }
    })
}

proptest! {
    #[test]
    fn thresholds_rise_with_people_and_fall_with_the_rate(
        calibration in tables(), people in 0u32.., more in 0u32..1_000_000, low in 1e-9f64..0.9, factor in 1f64..10.0
    ) {
        prop_assume!(calibration.validate().is_ok());
        let high = (low * factor).min(0.999);
        let threshold = calibration.threshold_for(low, people);
        prop_assert!((-1.0..=1.0).contains(&threshold));
        prop_assert!(calibration.threshold_for(low, people.saturating_add(more)) >= threshold);
        prop_assert!(calibration.threshold_for(high, people) <= threshold);
    }

    #[test]
    fn a_rate_comes_back_from_its_threshold(calibration in tables(), exponent in -12f64..-0.1) {
        prop_assume!(calibration.validate().is_ok());
        let fmr = 10f64.powf(exponent);
        let threshold = calibration.threshold_at_fmr(fmr);
        let first = calibration.table[0].fmr;
        // Where the threshold stands at its end, many rates share it.
        prop_assume!(threshold < 1.0 && fmr < first);
        let back = calibration.fmr_at(threshold);
        // A step of `f32` is up to 6e-8 of similarity; the steepest line has 4 decades in 0.01.
        prop_assert!((back.ln() - fmr.ln()).abs() < 1e-3, "{fmr} {threshold} {back}");
    }
}
