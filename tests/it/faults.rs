//! A short plan of faults over real processes; the long one is `facewire-tests faults --crops 20000 --faults 50`.

use std::process::Command;

#[test]
fn a_short_plan_loses_nothing_and_repeats_nothing() {
    // A seed of its own each time: a failure's output names it.
    let done = Command::new(env!("CARGO_BIN_EXE_facewire-tests"))
        .args(["faults", "--crops", "150", "--faults", "4", "--json"])
        .output()
        .unwrap();
    let (out, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{}\n{out}\n{said}", done.status);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let counts = ["crops", "lost", "twice", "failed", "dead_letters"];
    assert_eq!(counts.map(|name| &report[name]), [150, 0, 0, 0, 0], "{out}");
    assert!(report["in_time"].as_u64() > Some(0), "no fault found a crop on its way: {out}");
}
