//! A gallery that goes behind a projection head and back under load, as a short plan over real stores; the long one is
//! `facewire-tests switch`.

use std::process::Command;

#[test]
fn a_gallery_goes_behind_a_head_and_back_and_every_probe_is_decided_by_a_model_of_its_own() {
    let done = Command::new(env!("CARGO_BIN_EXE_facewire-tests"))
        .args(["switch", "--people", "20", "--faces", "2", "--times", "1", "--each", "40", "--window", "16", "--json"])
        .output()
        .unwrap();
    let (out, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{}\n{out}\n{said}", done.status);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let faults =
        ["lost", "twice", "unknown", "wrong", "missed", "failed", "other_model", "other_similarity", "dead_letters"];
    assert_eq!(faults.map(|name| report[name].as_u64()), [Some(0); 9], "{out}");
    let number = |name: &str| report[name].as_u64().unwrap();
    assert_eq!((number("switches"), number("rows"), number("results")), (2, number("crops"), number("crops")), "{out}");
    assert_eq!(number("right") + number("strangers"), number("crops"), "{out}");
    // Either model decided some, and what it was embedded with: the report tells them apart by their similarities too.
    let by_model = report["by_model"].as_object().unwrap();
    let models = ["pack", "head"].map(|side| report[side].as_str().unwrap());
    assert!(by_model.len() == 2 && models.iter().all(|model| by_model[*model].as_u64() > Some(0)), "{out}");
}
