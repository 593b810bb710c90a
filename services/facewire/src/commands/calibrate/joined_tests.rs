//! Tables behind the end of a sample: never a line that overshoots, and never below today's where that was promised.

use super::*;

/// The default pack's.
const USUAL: &[(f64, f32)] = &[(1e-1, 0.134), (1e-2, 0.2504), (1e-3, 0.3429), (1e-4, 0.4184), (1e-5, 0.4863)];

fn calibration(version: &str, table: &[(f64, f32)]) -> Calibration {
    Calibration {
        version: version.to_owned(),
        data: "people of a test".to_owned(),
        people: 50,
        genuine: 100,
        impostor: 100_000,
        margin: 0.05,
        table: table.iter().map(|(fmr, threshold)| FmrPoint { fmr: *fmr, threshold: *threshold }).collect(),
        confidence: None,
    }
}

type Join = fn(Calibration, &Calibration, &mut Vec<String>) -> Calibration;

/// Both ways, with the other table.
const JOINS: [Join; 2] = [|measured, other, notes| moved(measured, Some(other), notes), not_below];

fn near(a: f32, b: f32) -> bool {
    (a - b).abs() < 1e-5
}

/// Rates from 1e-1 to 1e-10, ten of each decade.
fn many() -> impl Iterator<Item = f64> {
    (10..=100).map(|step| 10f64.powf(-f64::from(step) / 10.0))
}

#[test]
fn a_small_sample_that_agrees_with_todays_table_moves_nothing() {
    let now = calibration("now", USUAL);
    let small = calibration("measured", &USUAL[..2]);
    // Continued, its line is at 0.599 among 1,000 faces.
    assert!(small.threshold_for(0.01, 1000) > 0.59);
    for join in JOINS {
        let found = join(small.clone(), &now, &mut Vec::new());
        found.validate().unwrap();
        assert!(many().all(|fmr| near(found.threshold_at_fmr(fmr), now.threshold_at_fmr(fmr))), "{:?}", found.table);
        assert!(found.threshold_for(0.01, 1000) < 0.487);
    }
}

#[test]
fn a_sample_that_is_lower_raises_nothing() {
    let now = calibration("now", USUAL);
    // Steeper than today's, and below it.
    let lower = calibration("measured", &[(1e-1, 0.05), (1e-2, 0.24)]);
    let mut notes = Vec::new();
    let found = not_below(lower.clone(), &now, &mut notes);
    assert!(many().all(|fmr| near(found.threshold_at_fmr(fmr), now.threshold_at_fmr(fmr))), "{:?}", found.table);
    assert_eq!(notes, ["Behind FMR 1e-2 the table is that of now, and is not measured."]);
    assert_eq!(found.data, "people of a test; at no rate below now");

    // As measured to its end, and then as far below today's as there.
    let mut notes = Vec::new();
    let found = moved(lower, Some(&now), &mut notes);
    found.validate().unwrap();
    assert_eq!((found.table[0].threshold, found.table[1].threshold), (0.05, 0.24));
    assert!(near(found.threshold_at_fmr(1e-5), 0.4863 - 0.0104), "{:?}", found.table);
    assert_eq!(notes, ["Behind FMR 1e-2 the table is that of now, moved by -0.0104, and is not measured."]);
    assert_eq!(found.data, "people of a test; behind FMR 1e-2 the curve of now");
}

#[test]
fn a_sample_that_is_higher_raises_what_is_behind_it_by_as_much() {
    let now = calibration("now", USUAL);
    for join in JOINS {
        let found = join(calibration("measured", &[(1e-1, 0.2), (1e-2, 0.3504)]), &now, &mut Vec::new());
        found.validate().unwrap();
        assert_eq!((found.table[0].threshold, found.table[1].threshold), (0.2, 0.3504));
        for fmr in [1e-3, 1e-4, 3e-5, 1e-5, 1e-7] {
            assert!(near(found.threshold_at_fmr(fmr), now.threshold_at_fmr(fmr) + 0.1), "{fmr:e}: {:?}", found.table);
        }
        let found = join(calibration("measured", &[(1e-1, 0.9), (1e-2, 0.99)]), &now, &mut Vec::new());
        found.validate().unwrap();
        assert_eq!(found.threshold_at_fmr(1e-9), 1.0);
    }
}

#[test]
fn a_larger_sample_of_the_same_people_is_never_further_from_the_pack() {
    let pack = calibration("pack", USUAL);
    for points in 2..=USUAL.len() {
        let found = moved(calibration("measured", &USUAL[..points]), Some(&pack), &mut Vec::new());
        assert!(near(found.threshold_for(0.01, 1000), pack.threshold_for(0.01, 1000)), "{points} points");
    }
}

#[test]
fn a_pack_without_a_table_lends_no_shape() {
    let sample = calibration("measured", &USUAL[..2]);
    let mut notes = Vec::new();
    assert_eq!(moved(sample.clone(), None, &mut notes), sample);
    assert_eq!(notes, [""; 0]);
}

#[test]
fn above_the_packs_first_rate_nothing_is_known_of_its_curve() {
    let pack = calibration("pack", &[(1e-3, 0.34), (1e-4, 0.42)]);
    let found = moved(calibration("measured", &[(1e-1, 0.13), (1e-2, 0.25)]), Some(&pack), &mut Vec::new());
    found.validate().unwrap();
    // The sample's line as far as to 1e-3, and from there on the pack's.
    assert!(near(found.threshold_at_fmr(1e-3), 0.37) && near(found.threshold_at_fmr(1e-4), 0.45), "{:?}", found.table);
}

/// Steep ones and flat ones, high ones and low ones, whose points are at decades and between them.
const TABLES: [&[(f64, f32)]; 8] = [
    USUAL,
    &[(1e-1, 0.05), (1e-2, 0.1)],
    &[(1e-1, 0.3), (1e-2, 0.31)],
    &[(1e-1, 0.2), (1e-2, 0.5)],
    &[(1e-2, 0.6), (1e-3, 0.9)],
    &[(1e-1, 0.9), (1e-2, 0.99)],
    &[(5e-1, 0.1), (3e-2, 0.2), (4e-3, 0.45), (7e-4, 0.47), (2e-6, 0.6)],
    &[(4e-3, 0.15), (2e-4, 0.35), (6e-5, 0.5)],
];

#[test]
fn a_joined_table_is_one_and_is_nowhere_below_what_it_must_not_be() {
    let all = || TABLES.into_iter().flat_map(|one| TABLES.into_iter().map(move |other| (one, other)));
    for (measured, now) in all().map(|(one, other)| (calibration("measured", one), calibration("now", other))) {
        let last = measured.table[measured.table.len() - 1].fmr;
        let found = not_below(measured.clone(), &now, &mut Vec::new());
        found.validate().unwrap();
        for fmr in many() {
            let (threshold, today) = (found.threshold_at_fmr(fmr), now.threshold_at_fmr(fmr));
            assert!(threshold >= today - 1e-5, "{fmr:e}: {threshold} below today's {today}: {measured:?} {found:?}");
            let own = measured.threshold_at_fmr(fmr);
            assert!(fmr < last || threshold >= own - 1e-5, "{fmr:e}: {threshold} below {own}: {now:?} {found:?}");
        }
        let found = moved(measured.clone(), Some(&now), &mut Vec::new());
        found.validate().unwrap();
        for fmr in many().filter(|fmr| *fmr >= last) {
            let (threshold, own) = (found.threshold_at_fmr(fmr), measured.threshold_at_fmr(fmr));
            assert!(near(threshold, own), "{fmr:e}: {threshold} and {own}: {now:?} {found:?}");
        }
    }
}
