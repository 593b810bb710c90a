//! What dashboards ask Prometheus for. Only reads files of `deploy/`; no server comes in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use facewire_domain::{GateLimits, Signal, decimal};
use serde_json::Value;

/// A file of `deploy/`.
pub(crate) fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path).canonicalize().unwrap()
}

/// What one panel, variable or rule asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Expression {
    /// Whose it is.
    pub(crate) of: String,
    /// PromQL, with Grafana's variables filled in.
    pub(crate) text: String,
}

impl Expression {
    /// A panel's, with every variable at "all".
    fn panel(of: &str, text: &str) -> Self {
        let mut text = text.replace("$__rate_interval", "1m").replace("$__range", "5m").replace("$__interval", "15s");
        for name in ["collection", "camera", "stage", "instance", "job", "service", "signal", "pool", "edge"] {
            text = text.replace(&format!("${{{name}:regex}}"), ".*");
            text = text.replace(&format!("${{{name}}}"), ".*").replace(&format!("${name}"), ".*");
        }
        assert!(!text.contains('$'), "{of}: a variable that this test does not know: {text}");
        Self { of: of.to_owned(), text }
    }

    /// A rule's, as Prometheus has read it. One that is quiet finds nothing, and neither does one that compares with
    /// yesterday: it is asked whether, not when, and for now.
    pub(crate) fn rule(of: &str, text: &str) -> Self {
        let mut parts = text.split(" offset ");
        let first = parts.next().unwrap_or_default().to_owned();
        let now = |part: &str| part.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).to_owned();
        let mut asked = parts.map(now).fold(first, |text, part| text + &part).replace(" unless ", " and ");
        for operator in [">", "<", ">=", "<=", "==", "!="] {
            asked = asked.replace(&format!(" {operator} "), &format!(" {operator} bool "));
        }
        Self { of: of.to_owned(), text: asked.replace(" bool bool ", " bool ") }
    }

    /// Names of metrics in it: all that begin as ours do.
    pub(crate) fn metrics(&self) -> Vec<String> {
        let words = self.text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
        let ours =
            ["facewire_", "facewire:", "messaging_process", "db_client", "http_server", "process_", "target_info"];
        words.filter(|word| ours.iter().any(|prefix| word.starts_with(prefix))).map(str::to_owned).collect()
    }
}

/// Every expression of every dashboard.
pub(crate) fn expressions() -> Vec<Expression> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(deploy("grafana/dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let dashboard: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        collect(&path.file_name().unwrap().to_string_lossy(), &dashboard, &mut all);
    }
    all.into_iter().collect()
}

fn collect(file: &str, value: &serde_json::Value, all: &mut BTreeSet<Expression>) {
    match value {
        serde_json::Value::Object(map) => {
            let of = || format!("{file}: {}", map.get("legendFormat").and_then(|l| l.as_str()).unwrap_or_default());
            all.extend(map.get("expr").and_then(|expr| expr.as_str()).map(|expr| Expression::panel(&of(), expr)));
            map.values().for_each(|value| collect(file, value, all));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| collect(file, value, all)),
        _ => {}
    }
}

/// The signal that a panel shows.
fn signal_of(panel: &Value) -> Option<Signal> {
    let expression = panel["targets"][0]["expr"].as_str()?;
    Signal::ALL.into_iter().find(|signal| expression.contains(&format!("facewire_quality_{signal}_bucket")))
}

/// The limits that the gate has of it by default, the lower one first.
fn own_limits(signal: Signal) -> Vec<f64> {
    let limits = GateLimits::default();
    signal.spec().bounds.iter().filter_map(|bound| limits.get(bound)).map(decimal).collect()
}

/// Numbers in a sentence.
fn numbers(text: &str) -> Vec<f64> {
    let words = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    words.filter_map(|word| word.trim_matches('.').parse().ok()).collect()
}

#[test]
fn a_panel_of_a_signal_states_and_draws_the_gates_own_limits() {
    let text = std::fs::read(deploy("grafana/dashboards/cameras.json")).unwrap();
    let dashboard: Value = serde_json::from_slice(&text).unwrap();
    let mut shown = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let Some(signal) = signal_of(panel) else { continue };
        assert_eq!(numbers(panel["description"].as_str().unwrap()), own_limits(signal), "{signal} in words");
        if panel["type"] == "timeseries" {
            let steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array().cloned().unwrap_or_default();
            let lines: Vec<f64> = steps.iter().filter_map(|step| step["value"].as_f64()).collect();
            assert_eq!(lines, own_limits(signal), "{signal} as a line");
        }
        shown.insert((signal, panel["type"].to_string()));
    }
    let judged = Signal::ALL.into_iter().filter(|signal| !signal.spec().bounds.is_empty());
    let missing: Vec<Signal> =
        judged.filter(|signal| shown.iter().filter(|(shown, _)| shown == signal).count() < 2).collect();
    assert!(missing.is_empty(), "without its median or its spread: {missing:?}");
}

#[test]
fn numbers_of_a_sentence_are_found() {
    assert_eq!(numbers("At least 0.25, at most 40. Half lie above."), [0.25, 40.0]);
    assert!(numbers("Off. There is none...").is_empty());
}

#[test]
fn metrics_of_an_expression_are_found() {
    let text = "sum(rate(facewire_crops_ended_total{camera=~\"$camera\"}[$__rate_interval])) / facewire:x:rate5m > 3";
    let panel = Expression::panel("x", text);
    assert_eq!(panel.metrics(), ["facewire_crops_ended_total", "facewire:x:rate5m"]);
    assert!(panel.text.contains("camera=~\".*\"") && panel.text.contains("[1m]"));
    assert!(Expression::rule("y", text).text.ends_with(" > bool 3"));
    assert_eq!(Expression::rule("z", "x unless (y[1h] offset 30m) >= 2").text, "x and (y[1h]) >= bool 2");
}
