//! A server goes away under load, as a short plan over real processes; the long one is `facewire-tests outage --for 2m`.

use std::process::Command;

/// Away until so many messages wait: no clock decides.
const WAITING: &str = "60";

fn plan(arguments: &[&str]) -> serde_json::Value {
    let done = Command::new(env!("CARGO_BIN_EXE_facewire-tests"))
        .args(["outage", "--crops", "120", "--rate", "40", "--until-waiting", WAITING, "--json"])
        .args(arguments)
        .output()
        .unwrap();
    let (out, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{}\n{out}\n{said}", done.status);
    serde_json::from_str(&out).unwrap()
}

#[test]
fn without_postgres_everything_waits_and_no_delivery_is_burnt() {
    let report = plan(&["--store", "postgres"]);
    let counts = ["crops", "rows", "results", "lost", "twice", "failed", "dead_letters", "gave_up"];
    assert_eq!(counts.map(|name| &report[name]), [120, 120, 120, 0, 0, 0, 0, 0], "{report}");
    assert!(report["waiting_most"].as_u64().unwrap() >= WAITING.parse().unwrap(), "{report}");
    let extra: Vec<u64> =
        report["extra_deliveries"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).collect();
    assert_eq!(extra, [0; 5], "ingest to enrich; {report}");
}
