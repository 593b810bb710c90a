//! Every service restarted under load, as a short plan over real processes; the long one is `facewire-tests rolling --crops 4000`,
//! with `--old` between two versions.

use std::process::Command;

use facewire_composition::Service;

const CROPS: u64 = 150;

#[test]
fn every_service_is_replaced_under_load_and_every_crop_ends_once() {
    let done = Command::new(env!("CARGO_BIN_EXE_facewire-tests"))
        .args(["rolling", "--crops", &CROPS.to_string(), "--json"])
        .output()
        .unwrap();
    let (out, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{}\n{out}\n{said}", done.status);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let counts = ["crops", "rows", "results", "lost", "twice", "failed", "dead_letters", "gave_up"];
    assert_eq!(counts.map(|name| &report[name]), [CROPS, CROPS, CROPS, 0, 0, 0, 0, 0], "{out}");
    let number = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(number("restarts"), Service::all().len() as u64, "{out}");
    assert!(number("under_load") > 0, "{out}");
}
