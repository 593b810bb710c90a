//! What the configuration says of matches, beside what an evaluation is asked for on its command line.

use facewire_domain::Calibration;
use facewire_match::Options;

use crate::cli::Evaluate;

/// How far the best person must lead, as `match` has it: by the configuration, else by the pack's calibration.
pub(super) fn margin(matching: &Options, calibration: Option<&Calibration>) -> Option<f32> {
    let margin = matching.margin.or(calibration.map(|calibration| calibration.margin));
    margin.filter(|margin| *margin > 0.0)
}

/// What a reader must know where the configuration decides by another threshold than what is measured here: that is chosen by the
/// command line and the pack alone, so that the same command gives the same numbers everywhere.
pub(super) fn otherwise(matching: &Options, args: &Evaluate) -> Option<String> {
    match (args.threshold, matching.threshold) {
        (Some(_), _) => None,
        (None, Some(fixed)) => Some(format!(
            "The configuration fixes match.threshold = {fixed}, which was not applied: --threshold {fixed} measures it."
        )),
        (None, None) if matching.fpir != args.fpir => {
            let fpir = matching.fpir;
            Some(format!(
                "The configuration has match.fpir = {fpir}, which was not asked for: --fpir {fpir} measures it."
            ))
        }
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::data::tests::arguments;
    use super::*;

    #[test]
    fn the_report_says_where_the_configuration_decides_otherwise() {
        let args = |line: &str| arguments(&format!("--faces d {line}"), &[]);
        let usual = Options::default();
        assert_eq!(otherwise(&usual, &args("")), None, "the defaults agree");
        assert!(otherwise(&usual, &args("--fpir 0.001")).unwrap().contains("match.fpir = 0.01"));
        let stricter = Options { fpir: 0.001, ..Options::default() };
        assert!(otherwise(&stricter, &args("")).unwrap().contains("--fpir 0.001 measures it"));
        let fixed = Options { threshold: Some(0.5), ..Options::default() };
        assert!(otherwise(&fixed, &args("--fpir 0.01")).unwrap().contains("match.threshold = 0.5"));
        assert_eq!(otherwise(&fixed, &args("--threshold 0.5")), None);
    }

    #[test]
    fn a_configured_margin_stands_above_the_packs() {
        let configured = |margin| Options { margin, ..Options::default() };
        let pack = Calibration {
            version: "pack-1".to_owned(),
            data: "a test".to_owned(),
            people: 50,
            genuine: 100,
            impostor: 100_000,
            margin: 0.05,
            table: Vec::new(),
            confidence: None,
        };
        assert_eq!(margin(&configured(None), Some(&pack)), Some(0.05));
        assert_eq!(margin(&configured(Some(0.1)), Some(&pack)), Some(0.1));
        assert_eq!(margin(&configured(Some(0.0)), Some(&pack)), None, "no margin");
        assert_eq!(margin(&configured(None), None), None);
    }
}
