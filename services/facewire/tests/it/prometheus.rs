//! A real Prometheus over the running services: every metric that a dashboard, rule or alert names is there, and every
//! expression is understood and finds series. Where Prometheus is not installed the tests say so, and in CI they
//! fail if it could have been installed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use facewire_devstack::{free_address, testing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::dashboards::{self, Expression, deploy};
use crate::deployment::{Deployment, four_crops};

/// Longest wait for the last of the series.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Whether a program can be run. Says so where it cannot.
pub(crate) fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        // `.ci/run` installs it where it can.
        let could = nix::unistd::geteuid().is_root() && Path::new("/usr/bin/apt-get").exists();
        testing::missing(&format!("{program} (Debian: apt-get install prometheus)"), could);
    }
    found
}

struct Prometheus {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Scrapes these every second, and evaluates the rules of `deploy/` as often.
    fn start(targets: &[SocketAddr]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let quoted: Vec<String> = targets.iter().map(|target| format!("'{target}'")).collect();
        let (rules, alerts) = (deploy("prometheus/rules.yaml"), deploy("prometheus/alerts.yaml"));
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: ['{}', '{}']\n\
             scrape_configs: [{{ job_name: facewire, static_configs: [{{ targets: [{}] }}] }}]\n",
            rules.display(),
            alerts.display(),
            quoted.join(", ")
        );
        std::fs::write(dir.path().join("prometheus.yaml"), config).unwrap();
        // Prometheus itself cannot say which port it took.
        let address = free_address("prometheus").unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.path().join("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--log.level=error"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address, _dir: dir }
    }

    /// The answer of its API; `None` while it does not answer.
    async fn get(&self, path: &str) -> Option<serde_json::Value> {
        let mut stream = tokio::net::TcpStream::connect(self.address).await.ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// Series that an expression finds now; an error is what Prometheus says of it.
    async fn series(&self, expression: &str) -> Result<usize, String> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).await.ok_or("no answer")?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"]["result"].as_array().map_or(0, Vec::len)),
            _ => Err(answer["error"].as_str().unwrap_or("no reason").to_owned()),
        }
    }

    /// Every rule and alert, once it has read them.
    async fn rules(&self) -> Vec<Expression> {
        let Some(answer) = self.get("/api/v1/rules").await else { return Vec::new() };
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        let rules = groups.iter().filter_map(|group| group["rules"].as_array()).flatten();
        let text = |rule: &serde_json::Value, key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        rules.map(|rule| Expression::rule(&text(rule, "name"), &text(rule, "query"))).collect()
    }

    /// Every name that it has.
    async fn names(&self) -> BTreeSet<String> {
        let answer = self.get("/api/v1/label/__name__/values").await.unwrap_or_default();
        answer["data"].as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }
}

#[tokio::test]
async fn every_expression_finds_series_on_the_running_stack() {
    if !installed("prometheus") {
        return;
    }
    let mut deployment = Deployment::start().await;
    let prometheus = Prometheus::start(&deployment.addresses().await);
    let mut expressions = dashboards::expressions();
    let panels = expressions.len();
    let started = Instant::now();
    while expressions.len() == panels {
        assert!(started.elapsed() < TIMEOUT, "Prometheus does not answer");
        expressions.extend(prometheus.rules().await);
    }
    assert!(panels > 40 && expressions.len() > panels + 10, "{panels} of {} are panels'", expressions.len());

    // Its receiver does not exist.
    let hook = r#"{"url": "http://127.0.0.1:1/", "secret": "a secret of a test"}"#;
    let made = deployment.http("POST", "/api/v1/webhooks", hook).await;
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    // Cameras go on: what counts the last minutes needs crops between two scrapes, and rules an evaluation after that.
    let mut missing = expressions.clone();
    while !missing.is_empty() {
        four_crops(&mut deployment, "").await;
        deployment.fail().await;
        deployment.job().await;
        deployment.http("GET", "/openapi.json", "").await;
        let mut still = Vec::new();
        for expression in missing {
            match prometheus.series(&expression.text).await {
                Ok(0) => still.push(expression),
                Ok(_) => {}
                Err(error) => panic!("{expression:?}: {error}"),
            }
        }
        missing = still;
        assert!(started.elapsed() < TIMEOUT, "without series: {missing:#?}");
    }
    let names = prometheus.names().await;
    let unknown: Vec<String> =
        expressions.iter().flat_map(Expression::metrics).filter(|name| !names.contains(name)).collect();
    assert!(unknown.is_empty(), "no such metric: {unknown:?}; there are {names:?}");
}

fn promtool(args: &[&str], file: &Path) {
    let output = Command::new("promtool").args(args).arg(file).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}: {}{}", file.display(), said(&output.stdout), said(&output.stderr));
}

#[test]
fn promtool_accepts_rules_alerts_and_their_cases() {
    if !installed("promtool") {
        return;
    }
    promtool(&["check", "config"], &deploy("prometheus/prometheus.yaml"));
    promtool(&["check", "rules"], &deploy("prometheus/rules.yaml"));
    promtool(&["check", "rules"], &deploy("prometheus/alerts.yaml"));
    promtool(&["test", "rules"], &deploy("prometheus/alerts.test.yaml"));
    promtool(&["test", "rules"], &deploy("prometheus/week.test.yaml"));
}
