//! The page and the JSON: that all is shown, that nothing is loaded, and that text stays text.

use super::*;
use crate::discard::{PairSample, Sample, curve, pairs as discard_pairs};
use crate::gating::Gated;
use crate::identification::{Answer, FPIR_TARGETS, Probe};
use crate::limits::{Judged, Limits};
use crate::rank::Ranked;
use crate::rates::FMR_TARGETS;
use crate::testing::Lcg;
use crate::verification::{Pair, insightface};

const EVIL: &str = "<script>alert('x')</script> & \"co\"";

fn genuine(random: &mut Lcg) -> Vec<GenuinePair> {
    let mut pair = |i: u32| {
        let similarity = (random.normal() * 0.12 + 0.45) as f32;
        GenuinePair { person: i % 97, rows: (i, i + 1), similarity }
    };
    (0..2000).map(&mut pair).collect()
}

fn open_set(random: &mut Lcg) -> OpenSet {
    let mut probe = |person: u32, shift: f64| {
        let best = (random.normal() * 0.1 + shift) as f32;
        let answer = match person % 10 {
            9 => Answer::Rejected(EVIL.to_owned()),
            _ => Answer::Ranked(Ranked { best_person: person % 50, best, runner_up: Some(best - 0.1) }),
        };
        Probe { person, answer }
    };
    let known = (0..400).map(|i| probe(i % 50, 0.5)).collect();
    let strangers = (0..300).map(|i| probe(1000 + i, 0.25)).collect();
    OpenSet::new(0..50, 0..49, known, strangers)
}

fn report() -> Report {
    let mut random = Lcg::new(21);
    let genuine = genuine(&mut random);
    let impostor = (0..5000).map(|_| (random.normal() * 0.08) as f32).collect();
    let scores = Scores::new(genuine.iter().map(|p| p.similarity).collect(), impostor).unwrap();
    let samples: Vec<PairSample> = genuine
        .iter()
        .map(|p| PairSample { similarity: p.similarity, values: (f64::from(p.similarity), 1.0) })
        .collect();
    let discard = discard_pairs(&samples, Direction::HigherIsBetter, 0.05).unwrap();
    let judged: Vec<Judged> = (0..500).map(|i| Judged { value: f64::from(i), right: i % 7 != 0 }).collect();
    let pairs: Vec<Pair> =
        genuine.iter().take(100).map(|p| Pair { same: true, similarity: Some(p.similarity) }).collect();
    let resampling = Resampling { resamples: 50, seed: 1 };
    let set = open_set(&mut random);
    let row = scores.fmr_table(&[0.01]).pop().unwrap();
    Report {
        title: EVIL.to_owned(),
        created: Some(EVIL.to_owned()),
        data_set: DataSet { name: EVIL.to_owned(), kind: EVIL.to_owned(), images: 5875, people: Some(97), pairs: None },
        model: Model { name: EVIL.to_owned(), fingerprint: EVIL.to_owned(), dim: 512 },
        gate: true,
        notes: vec![EVIL.to_owned()],
        acquisition: Some(Acquisition { failures: Rate::of_errors(2, 5875), reasons: [(EVIL.to_owned(), 2)].into() }),
        verification: Some(insightface(&pairs).unwrap()),
        pairs: Some(PairRates::new(&scores, &genuine, &FMR_TARGETS, resampling)),
        open_sets: vec![OpenSetRates::new(EVIL, &set, &FPIR_TARGETS, &[0.36], resampling)],
        gates: vec![GateEffect::new(EVIL, 0.36, &[Gated { right: false, reason: Some(EVIL.to_owned()) }], &[])],
        discard: vec![SignalDiscard { signal: EVIL.to_owned(), error: EVIL.to_owned(), discard }],
        limits: vec![SignalLimits {
            signal: EVIL.to_owned(),
            direction: Direction::LowerIsBetter,
            rows: Limits::new(&judged, Direction::LowerIsBetter).table(&[100.0, 400.0]),
            verdict: Some(EVIL.to_owned()),
        }],
        subgroups: vec![Subgroup {
            attribute: EVIL.to_owned(),
            value: EVIL.to_owned(),
            people: 40,
            threshold: row.threshold,
            fmr: row.fmr,
            fnmr: row.fnmr,
            fnmr_interval: None,
        }],
    }
}

#[test]
fn the_page_has_every_section_and_every_plot() {
    let page = html(&report());
    for heading in
        ["Verification", "All against all", "Open set", "Gate", "Error versus discard", "Limits", "Subgroups"]
    {
        assert!(page.contains(&format!("<h2>{heading}")), "{heading} is missing");
    }
    // ROC, DET, scores, TPIR over FPIR, error versus discard.
    assert_eq!(page.matches("<svg").count(), 5);
    assert!(!page.contains("could not be drawn"));
    assert!(page.contains("unsupported (0 errors); of 5,000 at most"));
}

#[test]
fn the_page_loads_nothing_and_runs_nothing() {
    let page = html(&report()).replace("http://www.w3.org/2000/svg", "");
    for way in ["<script", "http", "src=", "href=", "url(", "@import", "<link", "<iframe", "onload"] {
        assert!(!page.to_lowercase().contains(way), "{way}");
    }
    assert!(page.contains("&lt;script&gt;"));
}

#[test]
fn what_was_not_measured_is_left_out() {
    let page = html(&Report { title: "Empty".to_owned(), ..Report::default() });
    assert_eq!((page.matches("<h2>").count(), page.matches("<svg").count()), (0, 0));
    let nothing = Scores::new(vec![], vec![]).unwrap();
    let pairs = Some(PairRates::new(&nothing, &[], &FMR_TARGETS, Resampling::default()));
    let empty =
        OpenSetRates::new("none", &OpenSet::new([], [], vec![], vec![]), &FPIR_TARGETS, &[], Resampling::default());
    let page = html(&Report { pairs, open_sets: vec![empty], ..Report::default() });
    assert!(page.contains("not measured") && !page.contains("could not be drawn") && !page.contains("NaN"));
}

#[test]
fn one_score_of_each_kind_is_drawn() {
    let one = Scores::new(vec![0.5], vec![0.1]).unwrap();
    let page = html(&Report {
        pairs: Some(PairRates::new(&one, &[], &FMR_TARGETS, Resampling::default())),
        ..Report::default()
    });
    assert!(page.contains("<svg") && !page.contains("could not be drawn") && !page.contains("NaN"));
}

#[test]
fn what_too_few_errors_support_is_no_fact() {
    let pair = |i: u32| GenuinePair { person: i % 50, rows: (i, i + 1), similarity: 0.5 + (i as f32) / 1e4 };
    let genuine: Vec<GenuinePair> = (0..1000).map(pair).collect();
    let of = |lowest: f32| {
        let impostor = (0..1000).map(|i| lowest + i as f32 / 1e4).collect();
        let scores = Scores::new(genuine.iter().map(|pair| pair.similarity).collect(), impostor).unwrap();
        let found = PairRates::new(&scores, &genuine, &FMR_TARGETS, Resampling { resamples: 20, seed: 1 });
        let intervals: Vec<bool> = found.table.iter().map(|row| row.fnmr_interval.is_some()).collect();
        let page = html(&Report { pairs: Some(found.clone()), ..Report::default() });
        (found.equal_error_rate.is_some(), intervals, page.contains("Equal error rate unsupported"))
    };
    // All apart: no error at any threshold.
    assert_eq!(of(0.1), (false, vec![false; 5], true));
    // Twenty of each kind overlap: ten errors of each where they meet, and nowhere thirty.
    assert_eq!(of(0.402), (false, vec![false; 5], true));
    let (meet, intervals, unsupported) = of(0.45);
    assert!(meet && !unsupported && intervals.iter().all(|found| *found), "{intervals:?}");
}

#[test]
fn what_a_limit_or_a_signal_does_is_no_fact_of_few_errors() {
    // Below 50 are fifty that fail and one that is right; above, so many others fail.
    let of = |others: u32| {
        let value = |i: u32| if i == 999 { 0.0 } else { f64::from(i) };
        let right = |i: u32| i >= 50 + others;
        let judged: Vec<Judged> = (0..1000).map(|i| Judged { value: value(i), right: right(i) }).collect();
        let samples: Vec<Sample> = (0..1000).map(|i| Sample { quality: value(i), error: !right(i) }).collect();
        let (signal, direction, error) = ("blur".to_owned(), Direction::HigherIsBetter, "FNIR".to_owned());
        let rows = Limits::new(&judged, direction).table(&[50.0]);
        let discard = SignalDiscard { signal: signal.clone(), error, discard: curve(&samples).unwrap() };
        (tables::limits(&SignalLimits { signal, direction, rows, verdict: None }), tables::discard(&[discard]))
    };
    let (limit, discard) = of(10);
    assert!(limit.contains("<td>–</td><td>unsupported (1 error); of 940 at most "), "{limit}");
    assert!(discard.contains("<td>– (discarded 10.0 %)</td>"), "{discard}");
    let (limit, discard) = of(100);
    assert!(limit.contains("<td>9.30</td><td>unsupported (1 error); of 850 at most "), "{limit}");
    assert!(discard.contains("<td>62.2 % (discarded 10.0 %)</td>"), "{discard}");
}

#[test]
fn a_histogram_holds_every_score() {
    let bins = histogram(&[-1.5, -1.0, -0.99, 0.0, 0.0, 0.999, 1.0, 1.000_001]);
    assert_eq!((bins.len(), bins.iter().sum::<u64>()), (100, 8));
    assert_eq!((bins[0], bins[50], bins[99]), (3, 2, 3));
}

#[test]
fn the_json_has_every_number() {
    let json = serde_json::to_value(report()).unwrap();
    assert_eq!(json["pairs"]["table"][4]["fmr"]["supported"], false);
    assert_eq!(json["pairs"]["table"][0]["target"], 0.01);
    assert_eq!(json["open_sets"][0]["table"][5]["target_fpir"], serde_json::Value::Null);
    assert_eq!(json["open_sets"][0]["failure_to_enrol"]["errors"], 1);
    assert_eq!(json["discard"][0]["base"]["errors"], 100);
    assert_eq!(json["limits"][0]["direction"], "lower_is_better");
}

#[test]
fn a_file_is_whole_and_its_neighbours_stay() {
    let dir = tempfile::tempdir().unwrap();
    let [page, neighbour] = ["r.html", "r.part"].map(|name| dir.path().join(name));
    fs::write(&neighbour, "mine").unwrap();
    for text in ["first", "second"] {
        write_whole(&page, text).unwrap();
        assert_eq!(fs::read_to_string(&page).unwrap(), text);
    }
    // A folder is in the way: nothing is left behind.
    let taken = dir.path().join("taken");
    fs::create_dir(&taken).unwrap();
    let problem = write_whole(&taken, "text").unwrap_err().to_string();
    assert!(problem.contains("taken"), "{problem}");
    assert_eq!(fs::read_to_string(&neighbour).unwrap(), "mine");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn what_is_no_file_stays_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let [page, link, dangling, pipe] = ["page", "link", "dangling", "pipe"].map(|name| dir.path().join(name));
    fs::write(&page, "before").unwrap();
    std::os::unix::fs::symlink(&page, &link).unwrap();
    write_whole(&link, "text").unwrap();
    assert!(link.is_symlink() && fs::read_to_string(&page).unwrap() == "text", "the file behind the link is written");
    std::os::unix::fs::symlink(dir.path().join("later"), &dangling).unwrap();
    write_whole(&dangling, "text").unwrap();
    assert!(dangling.is_symlink() && fs::read_to_string(dir.path().join("later")).unwrap() == "text");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Nobody reads yet: this one does not wait.
    check_writable(&pipe).unwrap();
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    write_whole(&pipe, "text").unwrap();
    assert_eq!(reader.join().unwrap(), "text");
    assert!(!fs::metadata(&pipe).unwrap().is_file(), "a pipe stays one");
}

#[test]
fn what_cannot_be_written_is_said_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page");
    check_writable(&page).unwrap();
    fs::write(&page, "before").unwrap();
    check_writable(&page).unwrap();
    assert_eq!((fs::read_to_string(&page).unwrap().as_str(), fs::read_dir(dir.path()).unwrap().count()), ("before", 1));
    assert!(check_writable(dir.path()).is_err(), "a folder");
    assert!(check_writable(&dir.path().join("none/page")).is_err(), "in no folder");
    assert!(check_writable(&page.join("page")).is_err(), "in a file");
}
