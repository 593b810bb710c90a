//! The embed stage scaled by its lag, as a short run over real processes; the long one is `facewire-tests autoscale`. And the
//! arithmetic that it scales by.

use std::process::Command;

#[path = "../bin/autoscale/keda.rs"]
#[allow(dead_code, reason = "the long test uses more of it")]
mod keda;
#[path = "../bin/autoscale/rate.rs"]
mod rate;
#[path = "../bin/autoscale/values.rs"]
mod values;

/// More than one worker can embed before the scaler looks again.
const BURST: u64 = 400;

#[test]
fn a_burst_scales_from_none_to_several_and_back_to_none_and_loses_nothing() {
    let done = Command::new(env!("CARGO_BIN_EXE_facewire-tests"))
        .args(["autoscale", "--burst", &BURST.to_string(), "--batch", "8", "--batch-ms", "100"])
        .args(["--lag-threshold", "50", "--workers-max", "4", "--speed", "100", "--json"])
        .output()
        .unwrap();
    let (out, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{}\n{out}\n{said}", done.status);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let counts = ["faces", "arrived", "lost", "twice", "unknown", "wrong", "burnt", "failed", "dead_letters"];
    assert_eq!(counts.map(|name| &report[name]), [BURST, BURST, 0, 0, 0, 0, 0, 0, 0], "{out}");
    assert_eq!(report["numbers_from"], values::FILE, "{out}");
    let workers: Vec<u64> =
        report["timeline"].as_array().unwrap().iter().map(|sample| sample["workers"].as_u64().unwrap()).collect();
    assert_eq!((workers[0], workers[workers.len() - 1]), (0, 0), "{out}");
    let most = report["workers_most"].as_u64().unwrap();
    assert!((2..=4).contains(&most), "{out}");
    assert!(report["drained"].as_u64().unwrap() >= most, "all that came went in order: {out}");
}
