//! The numbers of the Helm chart by which a stage scales, so that what is tested is what is installed. It reads as much of YAML
//! as the chart's values need: maps of scalars, in blocks or in braces. Nothing of Helm.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::keda::ScaledObject;

/// The chart's values, from the workspace's root.
pub(crate) const FILE: &str = "helm/facewire/values.yaml";

/// Without a chart: what a cluster's operator would write first.
const DEFAULTS: ScaledObject = ScaledObject {
    lag_threshold: 2000,
    activation_lag_threshold: 0,
    polling_interval: Duration::from_secs(15),
    cooldown_period: Duration::from_secs(300),
    stabilization_window: Duration::from_secs(300),
    min_replicas: 0,
    max_replicas: 8,
};

/// The chart's text; `None`: this checkout has no chart.
pub(crate) fn chart() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    std::fs::read_to_string(root.join(FILE)).ok()
}

/// How the chart scales a service that may go to zero, and the keys that it does not have.
pub(crate) fn scaled_object(chart: &str, service: &str) -> (ScaledObject, Vec<String>) {
    let (values, mut missing) = (scalars(chart), Vec::new());
    let mut number = |key: String, default: u64| {
        let found = values.get(&key).and_then(|value| value.parse().ok());
        found.unwrap_or_else(|| {
            missing.push(key);
            default
        })
    };
    let mut seconds =
        |key: &str, default: Duration| Duration::from_secs(number(format!("keda.{key}"), default.as_secs()));
    let polling_interval = seconds("pollingInterval", DEFAULTS.polling_interval);
    let cooldown_period = seconds("cooldownPeriod", DEFAULTS.cooldown_period);
    let stabilization_window = seconds("stabilizationWindowSeconds", DEFAULTS.stabilization_window);
    let mut own = |key: &str, default: u64| number(format!("services.{service}.{key}"), default);
    let lag_threshold = own("keda.lagThreshold", DEFAULTS.lag_threshold);
    let activation_lag_threshold = own("keda.activationLagThreshold", DEFAULTS.activation_lag_threshold);
    let max_replicas = own("autoscaling.maxReplicas", DEFAULTS.max_replicas.into());
    let object = ScaledObject {
        lag_threshold,
        activation_lag_threshold,
        polling_interval,
        cooldown_period,
        stabilization_window,
        max_replicas: u32::try_from(max_replicas).unwrap_or(u32::MAX),
        ..DEFAULTS
    };
    (object, missing)
}

/// Every scalar by its path. Lists and texts of several lines are passed over.
fn scalars(yaml: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // Indentation and key of each map that is open.
    let mut path: Vec<(usize, &str)> = Vec::new();
    for line in yaml.lines() {
        let line = line.split_once(" #").map_or(line, |(before, _)| before).trim_end();
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if text.is_empty() || text.starts_with(['#', '-']) {
            continue;
        }
        let Some((key, value)) = text.split_once(':') else { continue };
        path.retain(|(outer, _)| *outer < indent);
        path.push((indent, key));
        let name = path.iter().map(|(_, key)| *key).collect::<Vec<_>>().join(".");
        let value = value.trim();
        match value.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
            Some(inner) => {
                let pairs = inner.split(',').filter_map(|pair| pair.split_once(':'));
                found.extend(pairs.map(|(key, value)| (format!("{name}.{}", key.trim()), plain(value))));
            }
            None if value.is_empty() => {}
            None => drop(found.insert(name, plain(value))),
        }
    }
    found
}

/// Without quotes.
fn plain(value: &str) -> String {
    value.trim().trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
# keda: no value
keda:
  trigger: nats
  # Seconds.
  pollingInterval: 20 # between two looks
  cooldownPeriod: 60
  prometheus:
    serverAddress: \"\"
  stabilizationWindowSeconds: 90
services:
  match:
    keda: { lagThreshold: 1, activationLagThreshold: 1 }
  embed-gpu:
    tolerations:
      - key: gpu
    autoscaling: { minReplicas: 1, maxReplicas: 12 }
    keda:
      lagThreshold: \"700\"
      activationLagThreshold: 3
migrate:
  keda: { lagThreshold: 5 }
";

    #[test]
    fn a_services_numbers_are_its_own_and_the_rest_is_common() {
        let (object, missing) = scaled_object(SAMPLE, "embed-gpu");
        let seconds = Duration::from_secs;
        let expected = ScaledObject {
            lag_threshold: 700,
            activation_lag_threshold: 3,
            polling_interval: seconds(20),
            cooldown_period: seconds(60),
            stabilization_window: seconds(90),
            min_replicas: 0,
            max_replicas: 12,
        };
        assert_eq!((object, missing), (expected, Vec::new()));
        let (object, missing) = scaled_object(SAMPLE, "match");
        assert_eq!((object.lag_threshold, object.activation_lag_threshold), (1, 1));
        assert_eq!((object.max_replicas, missing), (8, vec!["services.match.autoscaling.maxReplicas".to_owned()]));
    }

    #[test]
    fn the_chart_has_every_number() {
        let chart = chart().unwrap();
        assert_eq!(scaled_object(&chart, "embed-gpu").1, Vec::<String>::new(), "{FILE}");
    }
}
