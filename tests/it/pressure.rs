//! Crops wait before a stopped `embed-gpu`, as a short plan over real processes; the long one is
//! `facewire-tests pressure --crops 100000`.

use std::process::Command;

/// More than all stages and the streams between them can take.
const CROPS: u64 = 1300;

/// What a stream holds counts until it is acked: room for more than a stage can have in hand, or its stream would bound it.
const STAGE_MIB: &str = "3";

#[test]
fn what_is_in_flight_is_bounded_while_crops_wait_on_disk() {
    let done = Command::new(env!("CARGO_BIN_EXE_facewire-tests"))
        .args(["pressure", "--crops", &CROPS.to_string(), "--stage-mib", STAGE_MIB, "--hold", "1s", "--json"])
        .output()
        .unwrap();
    let (out, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{}\n{out}\n{said}", done.status);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let counts = ["crops", "rows", "results", "left", "twice", "failed", "dead_letters", "gave_up"];
    assert_eq!(counts.map(|name| &report[name]), [CROPS, CROPS, CROPS, 0, 0, 0, 0, 0], "{out}");
    let number = |path: &str| report.pointer(path).and_then(serde_json::Value::as_u64).unwrap();
    assert!(number("/waited") > 0, "the credit chain did not reach back to CROPS: {out}");
    // Full sinks: a bound that nobody comes near would hold by itself.
    for stage in ["ingest", "quality"] {
        let (held, bound) =
            (number(&format!("/stages/{stage}/most_blocked")), number(&format!("/stages/{stage}/bound")));
        assert!(held <= bound && held >= bound / 2, "{stage} held {held} of {bound}: {out}");
    }
}
