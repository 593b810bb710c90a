//! The page of a projection head: how its training went, and what it is worth on people whom it has never seen.

use std::path::Path;

use super::format::{count, escape, percent, rate};
use super::html::{floor, page};
use super::plots::{Axes, Line, half_logarithmic, linear};
use super::tables::table;
use super::{WriteError, write_whole};
use crate::held_out::{HeadGain, HeadSide, HeadTraining, HeadVerdict};

/// What the page shows.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadPage<'a> {
    /// The heading.
    pub title: &'a str,
    /// What the reader must know: name and value.
    pub facts: Vec<(&'a str, String)>,
    /// How it was trained.
    pub training: Option<&'a HeadTraining>,
    /// What it is worth.
    pub verdict: Option<&'a HeadVerdict>,
}

/// The page as one self-contained HTML file.
pub fn head_html(shown: &HeadPage<'_>) -> String {
    let facts = shown.facts.iter().map(|(name, value)| vec![escape(name), escape(value)]);
    let mut sections = vec![table(&["", ""], facts)];
    sections.extend(shown.verdict.map(verdict));
    sections.extend(shown.training.map(training));
    page(shown.title, &sections.concat())
}

/// Writes the page; whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write_head(shown: &HeadPage<'_>, path: &Path) -> Result<(), WriteError> {
    write_whole(path, &head_html(shown))
}

fn verdict(found: &HeadVerdict) -> String {
    let said = if found.accepted { "accepted: both gains are certain" } else { "refused: no certain gain over both" };
    let at = percent(found.target_fpir);
    let rows = [("as they are", &found.raw), ("principal components", &found.pca), ("head", &found.head)];
    let sides = table(
        &["Embeddings", "Numbers", "Threshold", "TPIR", "Interval", "Right", "FPIR"],
        rows.map(|(name, side)| side_row(name, side)),
    );
    let gains = table(
        &["Gain of the head", "TPIR", "Interval"],
        [gain_row("over the embeddings as they are", found.over_raw), gain_row("over PCA", found.over_pca)],
    );
    let axes = Axes {
        title: "TPIR over FPIR, held-out people".to_owned(),
        x: ("FPIR", floor(strange_probes(found))..1.0),
        y: ("TPIR", 0.0..1.0),
    };
    let lines = rows.map(|(name, side)| Line::new(name, side.curve.iter().copied()));
    format!(
        "<h2>Verdict: {said}</h2>\n<p>{} people enrolled with one face each and {} strangers, none of whom was trained on or chose \
         the epoch. TPIR where FPIR on these strangers is {at} at most, each at the lowest threshold that keeps it; intervals are of \
         95 %, by resampling people. A head is accepted where the lower end of both gains is above zero.</p>\n{sides}{gains}{}",
        count(found.people as u64),
        count(found.strangers as u64),
        half_logarithmic(&axes, &lines)
    )
}

/// In a verdict of an earlier release about as many as there are of the known people's.
fn strange_probes(found: &HeadVerdict) -> u64 {
    match found.head.strange_probes {
        0 => found.head.probes * found.strangers as u64 / found.people.max(1) as u64,
        probes => probes,
    }
}

fn side_row(name: &str, side: &HeadSide) -> Vec<String> {
    vec![
        name.to_owned(),
        count(side.dim as u64),
        format!("{:.4}", side.threshold),
        rate(&side.measured_tpir()),
        format!("{} to {}", percent(side.low), percent(side.high)),
        format!("{} of {}", count(side.right), count(side.probes)),
        side.measured_fpir().map_or_else(|| percent(side.fpir), |fpir| rate(&fpir)),
    ]
}

fn gain_row(name: &str, gain: HeadGain) -> Vec<String> {
    vec![name.to_owned(), percent(gain.value), format!("{} to {}", percent(gain.low), percent(gain.high))]
}

fn training(found: &HeadTraining) -> String {
    let of = |value: fn(&crate::held_out::HeadEpoch) -> f64| {
        found.history.iter().map(move |epoch| (f64::from(epoch.epoch), value(epoch))).collect::<Vec<(f64, f64)>>()
    };
    let last = found.history.last().map_or(1.0, |epoch| f64::from(epoch.epoch)).max(2.0);
    let losses =
        [Line::new("training", of(|epoch| epoch.loss)), Line::new("validation", of(|epoch| epoch.validation_loss))];
    let top = losses.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max);
    let loss = Axes { title: "Loss".to_owned(), x: ("epoch", 1.0..last), y: ("loss", 0.0..(top * 1.05).max(0.001)) };
    let rate = Axes {
        title: "Validation people: pairs that match at FMR 1 %".to_owned(),
        x: ("epoch", 1.0..last),
        y: ("share", 0.0..1.0),
    };
    let rates = [Line::new("validation", of(|epoch| epoch.validation_rate))];
    let best = match found.best_epoch {
        0 => "No epoch was better than the principal components, with which training begins.".to_owned(),
        epoch => format!("Epoch {epoch} was the best on the people who chose it."),
    };
    format!(
        "<h2>Training</h2>\n<p>{} faces; {} people to train on, {} who chose the epoch, {} held out. {best}</p>\n{}{}",
        count(found.faces as u64),
        count(found.trained as u64),
        count(found.validated as u64),
        count(found.held_out as u64),
        linear(&loss, &losses),
        linear(&rate, &rates)
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::held_out::HeadEpoch;

    /// So many of a hundred probes are right.
    fn side(right: u32) -> HeadSide {
        let tpir = f64::from(right) / 100.0;
        HeadSide {
            dim: 128,
            threshold: 0.42,
            tpir,
            low: tpir - 0.1,
            high: tpir + 0.1,
            right: u64::from(right),
            probes: 100,
            fpir: 0.01,
            strangers_accepted: 1,
            strange_probes: 100,
            curve: vec![(1.0, 0.9), (0.1, 0.7), (0.01, tpir)],
        }
    }

    fn found() -> (HeadTraining, HeadVerdict) {
        let epoch = |epoch: u32| HeadEpoch {
            epoch,
            loss: 1.0 / f64::from(epoch),
            validation_loss: 1.2 / f64::from(epoch),
            validation_rate: 0.5,
            improved: true,
        };
        let history = (1..=5).map(epoch).collect();
        let training = HeadTraining { faces: 1200, trained: 60, validated: 20, held_out: 40, best_epoch: 5, history };
        let gain = HeadGain { value: 0.1, low: 0.02, high: 0.2 };
        let (raw, pca, head) = (side(50), side(40), side(60));
        let (over_raw, over_pca) = (gain, HeadGain { value: 0.2, low: 0.1, high: 0.3 });
        let verdict = HeadVerdict {
            accepted: true,
            target_fpir: 0.01,
            people: 20,
            strangers: 20,
            raw,
            pca,
            head,
            over_raw,
            over_pca,
        };
        (training, verdict)
    }

    #[test]
    fn the_page_has_both_curves_and_the_numbers_and_loads_nothing() {
        let (training, verdict) = found();
        let facts = vec![("Head", "<script>".to_owned())];
        let page = HeadPage { title: "A & B", facts, training: Some(&training), verdict: Some(&verdict) };
        let html = head_html(&page);
        assert_eq!(html.matches("<svg").count(), 3);
        for part in ["Verdict: accepted", "60.0 %", "50.0 % to 70.0 %", "2.00 % to 20.0 %", "A &amp; B", "1,200 faces"]
        {
            assert!(html.contains(part), "{part}");
        }
        // One accepted stranger of a hundred is no rate.
        assert_eq!(html.matches("unsupported (1 error); of 100 at most 4.74 % at 95 %").count(), 3);
        assert!(html.contains("is 1.00 % at most") && !html.contains("TPIR at FPIR"));
        // Nor are two probes that were not right.
        let nearly_all = HeadVerdict { head: side(98), ..verdict.clone() };
        let html_of_few = head_html(&HeadPage { verdict: Some(&nearly_all), ..page.clone() });
        assert!(html_of_few.contains("unsupported (2 errors); of 100 at least") && !html_of_few.contains("98.0 % (98"));
        assert!(!html.contains("<script>") && !html.contains("could not be drawn"));
        let shown = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!shown.contains("http") && !shown.contains("src="));
    }

    #[test]
    fn what_is_not_known_is_left_out_and_a_file_is_whole() {
        let page = HeadPage { title: "Empty", facts: Vec::new(), training: None, verdict: None };
        assert_eq!(head_html(&page).matches("<svg").count(), 0);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("head.html");
        write_head(&page, &file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), head_html(&page));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let nowhere = write_head(&page, &dir.path().join("none/head.html")).unwrap_err().to_string();
        assert!(nowhere.contains("head.html"), "{nowhere}");
    }
}
