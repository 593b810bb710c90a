//! Calibrations against scikit-learn's (tests/reference.py), and what must be refused.

use super::*;
use crate::testing::Lcg;

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{a} is not {b}");
}

fn similarities() -> (Vec<f64>, Vec<bool>) {
    let mut random = Lcg::new(11);
    let mut sample = |_| {
        let s = random.normal() * 0.15 + 0.4;
        (s, random.uniform() < sigmoid(25.0 * s - 9.0))
    };
    (0..800).map(&mut sample).unzip()
}

fn signals() -> (Vec<[f64; 3]>, Vec<bool>) {
    let mut random = Lcg::new(12);
    let mut sample = |_| {
        let (blur, brightness) = (100.0 + 40.0 * random.normal(), 0.5 + 0.1 * random.normal());
        let yaw = (20.0 * random.normal()).abs();
        let right = random.uniform() < sigmoid(0.03 * blur + 2.0 * brightness - 0.1 * yaw - 2.0);
        ([blur, brightness, yaw], right)
    };
    (0..600).map(&mut sample).unzip()
}

#[test]
fn platt_agrees_with_scikit_learn() {
    let (s, right) = similarities();
    let fit = platt(&s, &right, Penalty::default()).unwrap();
    close(fit.model.slope, 21.918_218_786_275_858, 1e-6);
    close(fit.model.intercept, -8.015_910_825_321_539, 1e-6);
    close(fit.log_loss, 0.315_265_515_138_419_3, 1e-9);
    close(fit.auc, 0.938_472_688_434_543_8, 1e-12);
    close(fit.model.confidence(0.5), 1.0 / (1.0 + (8.015_910_825_321_539f64 - 10.959_109_393_137_929).exp()), 1e-6);
    assert_eq!((fit.samples, fit.positive), (800, right.iter().filter(|r| **r).count()));
}

#[test]
fn several_features_agree_with_scikit_learn() {
    let (rows, labels) = signals();
    let fit = logistic(&rows, &labels, Penalty::default()).unwrap();
    for (weight, known) in fit.model.weights.iter().zip([0.025_691_922_737, -0.578_797_942_735, -0.096_843_541_585]) {
        close(*weight, known, 1e-7);
    }
    close(fit.model.intercept, -0.403_109_038_755, 1e-6);
    close(fit.log_loss, 0.503_980_743_152_643_5, 1e-9);
    close(fit.auc, 0.826_741_254_333_438_5, 1e-12);
}

#[test]
fn a_constant_feature_and_separated_classes_have_an_answer_with_a_penalty() {
    let rows = [[0.1, 7.3], [0.2, 7.3], [0.8, 7.3], [0.9, 7.3]];
    let labels = [false, false, true, true];
    let fit = logistic(&rows, &labels, Penalty::default()).unwrap();
    assert_eq!((fit.model.weights[1], fit.auc), (0.0, 1.0));
    let logit = |features: [f64; 2]| fit.model.intercept + dot(&fit.model.weights, &features);
    assert!(logit([0.9, 7.3]) > 0.0 && logit([0.1, 7.3]) < 0.0);
    assert_eq!(logistic(&rows, &labels, Penalty { l2: 0.0 }).unwrap_err(), CalibrateError::NoAnswer);
}

#[test]
fn extremes_do_not_overflow() {
    let steep = Platt { slope: 1e6, intercept: 0.0 };
    assert_eq!((steep.confidence(1.0), steep.confidence(-1.0)), (1.0, 0.0));
    close(log_loss(800.0, false), 800.0, 1e-12);
    assert_eq!(log_loss(800.0, true), 0.0);
}

#[test]
fn what_teaches_nothing_is_refused() {
    let one = platt(&[0.1, 0.2], &[true, true], Penalty::default()).unwrap_err();
    assert_eq!(one, CalibrateError::OneClass { samples: 2 });
    assert!(matches!(platt(&[], &[], Penalty::default()), Err(CalibrateError::OneClass { samples: 0 })));
    assert!(matches!(platt(&[0.1], &[true, false], Penalty::default()), Err(CalibrateError::Length { .. })));
    let nan = platt(&[0.1, f64::NAN], &[true, false], Penalty::default()).unwrap_err();
    assert!(matches!(nan, CalibrateError::Value { row: 1, .. }));
}

#[test]
fn ties_count_half_in_the_area() {
    assert_eq!(auc(&[0.1, 0.5, 0.5, 0.9], &[false, true, false, true]), Some(0.875));
    assert_eq!(auc(&[0.1], &[true]), None);
}
