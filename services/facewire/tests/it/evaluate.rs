//! `facewire evaluate` as a person runs it, on the design's pairs and its small test set: the numbers that the reference chain
//! gives, the page, the cache of the second run.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use facewire_devstack::testing;
use serde_json::Value;

/// The design's data beside the workspace.
fn data() -> Option<PathBuf> {
    testing::shared_data("")
}

/// Runs the binary with nothing configured; models come from the machine's cache, what was seen goes to `cache`.
fn evaluate(cache: &Path, arguments: &[&str], paths: &[&Path]) -> Output {
    command(cache, arguments, paths).output().unwrap()
}

fn command(cache: &Path, arguments: &[&str], paths: &[&Path]) -> Command {
    let mut paths = paths.iter();
    let mut command = Command::new(env!("CARGO_BIN_EXE_facewire"));
    command.arg("evaluate").env_remove("FACEWIRE_CONFIG");
    if !arguments.contains(&"--no-cache") {
        command.arg("--cache").arg(cache);
    }
    command.args(
        arguments.iter().map(|word| if *word == "@" { paths.next().unwrap().as_os_str() } else { word.as_ref() }),
    );
    command
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_str(&text(output)).unwrap()
}

#[test]
fn pairs_separate_and_the_second_run_looks_at_nothing() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (cache, page) = (folder.path().join("seen"), folder.path().join("report.html"));
    let list = data.join("pairs/pairs.csv");
    let run = |arguments: &[&str]| evaluate(&cache, arguments, &[&list, &page]);
    let first = run(&["--pairs", "@", "--gate", "off", "--json", "--report", "@"]);
    let found = report(&first);
    assert_eq!(found["verification"]["pairs"], 253);
    // As REFERENCE says: every pair separates, so ten folds miss at most those beside their threshold.
    let accuracy = found["verification"]["all"]["mean"].as_f64().unwrap();
    assert!(accuracy >= 0.985, "{accuracy}");
    assert!(found["pairs"]["auc"].as_f64().unwrap() >= 0.999, "{}", found["pairs"]["auc"]);
    assert_eq!(found["acquisition"]["failures"]["trials"], 23);
    let page = std::fs::read_to_string(&page).unwrap();
    for section in ["<h2>Verification", "<h2>All against all", "ROC", "Scores"] {
        assert!(page.contains(section), "{section}");
    }
    let files: Vec<PathBuf> = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    assert_eq!(std::fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    let length = std::fs::metadata(&files[0]).unwrap().len();
    // The gate is applied to what was seen before: nothing is added, and the answers are those of a run of its own.
    let (kept, fresh) = (run(&["--pairs", "@", "--json"]), run(&["--pairs", "@", "--json", "--no-cache"]));
    assert!(String::from_utf8_lossy(&kept.stderr).contains("23 pictures are known"));
    let (kept, fresh) = (report(&kept), report(&fresh));
    assert_eq!((&kept["pairs"], &kept["acquisition"]), (&fresh["pairs"], &fresh["acquisition"]));
    assert_eq!(std::fs::metadata(&files[0]).unwrap().len(), length);
}

#[test]
fn an_aligned_set_is_embedded_as_it_is() {
    let Some(data) = data() else { return };
    let cache = tempfile::tempdir().unwrap();
    let found = report(&evaluate(cache.path(), &["--bin", "@", "--json"], &[&data.join("small_lfw.bin")]));
    assert_eq!((found["data_set"]["images"].as_u64(), found["verification"]["same"].as_u64()), (Some(20), Some(10)));
    assert_eq!(found["gate"], false);
    assert!(found["notes"].to_string().contains("aligned by whoever made the set"));
    assert!(found["verification"]["all"]["mean"].as_f64().unwrap() >= 0.9);
    // What the same model gave on another device, or for other inputs, is not taken over.
    let mut pixels = command(cache.path(), &["--bin", "@", "--json"], &[&data.join("small_lfw.bin")]);
    let again = pixels.env("FACEWIRE__MODELS__GRAPH_INPUT", "uint8").output().unwrap();
    assert_eq!(report(&again)["data_set"]["images"], 20);
    assert!(!String::from_utf8_lossy(&again.stderr).contains("are known"));
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 2);
}

#[test]
fn an_open_set_with_cameras_has_every_section() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let people = folder.path().join("people");
    for (name, photos) in [("George_W_Bush", 3), ("Colin_Powell", 3), ("Tony_Blair", 3), ("Aaron_Sorkin", 1)] {
        std::fs::create_dir_all(people.join(name)).unwrap();
        for n in 1..=photos {
            let file = format!("{name}_{n:04}.jpg");
            std::fs::copy(data.join("lfw/images").join(name).join(&file), people.join(name).join(&file)).unwrap();
        }
    }
    let (page, features) = (folder.path().join("open.html"), folder.path().join("features.csv"));
    let arguments =
        ["--faces", "@", "--strangers-single", "1", "--cameras", "--report", "@", "--features", "@", "--json"];
    let found = report(&evaluate(&folder.path().join("seen"), &arguments, &[&people, &page, &features]));
    let names: Vec<&str> =
        found["open_sets"].as_array().unwrap().iter().map(|set| set["name"].as_str().unwrap()).collect();
    let cameras = ["all cameras", "clean", "blurred", "dark", "small-tilted", "all cameras, gate off"];
    assert_eq!(names, cameras);
    assert_eq!((&found["open_sets"][0]["known"], &found["open_sets"][0]["strangers"]), (&24.into(), &4.into()));
    // Three enrolled, six probes and a stranger by four cameras.
    assert_eq!(found["data_set"]["images"], 3 + 6 * 4 + 4);
    let page = std::fs::read_to_string(page).unwrap();
    for section in
        ["All against all", "Open set: all cameras", "Open set: dark", "Gate", "Error versus discard", "Limits"]
    {
        assert!(page.contains(&format!("<h2>{section}")), "{section}");
    }
    assert_eq!(std::fs::read_to_string(&features).unwrap().lines().count(), 1 + 3 + 24 + 4);
    assert_eq!(std::fs::metadata(&features).unwrap().permissions().mode() & 0o777, 0o600);

    // Two photos of each person are enrolled, and one of them stands for the person.
    let gallery = |more: &[&str]| {
        let arguments = [&["--faces", "@", "--enroll", "2", "--gate", "off", "--json"][..], more].concat();
        let found = report(&evaluate(&folder.path().join("seen"), &arguments, &[&people]));
        let kind = found["data_set"]["kind"].as_str().unwrap().to_owned();
        let set = &found["open_sets"][0];
        (set["people"].as_u64(), set["faces"].as_u64(), kind.contains("compared with up to 1 exemplars"))
    };
    assert_eq!(gallery(&[]), (Some(3), Some(6), false));
    assert_eq!(gallery(&["--against", "prototypes", "--exemplars", "1"]), (Some(3), Some(3), true));
}

#[test]
fn what_is_wrong_is_said_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str]| {
        let output = evaluate(folder.path(), arguments, &[&folder.path().join("missing")]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(refused(&["--gate", "off"]).0, Some(2));
    let (code, said) = refused(&["--faces", "@"]);
    assert!(code == Some(1) && said.contains("missing"), "{said}");
    // A folder where a file is to be, before anything is looked for.
    for (option, problem) in [("--report", "the report cannot be written"), ("--features", "cannot write")] {
        let paths = [&folder.path().join("missing"), folder.path()];
        let output = evaluate(folder.path(), &["--faces", "@", option, "@"], &paths);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(problem) && !said.contains("missing"), "{option}: {said}");
    }
}
