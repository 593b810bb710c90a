//! Installing and opening packs.

use std::io::Write;
use std::path::Path;

use facewire_inference::{
    BUILTIN_PACKS, InferenceError, Installing, Pack, PackError, PackManifest, SessionOptions, Trust, builtin_manifest,
    install_builtin, install_zip, installed_manifest,
};

use crate::assets::Models;
use crate::onnx::{free, mean_colour_model, with_weights_elsewhere};

#[test]
fn the_default_pack_is_pinned_and_noticed_when_changed() {
    let models = Models::new();
    assert_eq!(models.pack.manifest().trust, Trust::Pinned);
    let name = models.pack.fingerprint();
    assert!(name.starts_with("default@0.0.1:") && name.len() == "default@0.0.1:".len() + 8, "{name}");
    assert_eq!(Pack::open(models.directory.path()).unwrap().fingerprint(), name);
    install_builtin("default", models.directory.path(), models.directory.path()).unwrap();

    let file = models.directory.path().join("fr_landmark.onnx");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = Pack::open(models.directory.path()).unwrap_err();
    assert!(matches!(&error, PackError::Checksum { file: named, .. } if *named == file), "{error}");
    let other = tempfile::tempdir().unwrap();
    let error = install_builtin("default", models.directory.path(), other.path()).unwrap_err();
    assert!(matches!(&error, PackError::Source { file: named, .. } if *named == file), "{error}");
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(Pack::open(models.directory.path()), Err(PackError::Io { path, .. }) if path == file));
}

#[test]
fn a_model_that_was_replaced_since_the_pack_was_opened_is_not_run() {
    let models = Models::new();
    let replaced = |name: &str| {
        let path = models.directory.path().join(name);
        std::fs::write(&path, mean_colour_model(&free())).unwrap();
    };
    let refused = |error: InferenceError| {
        let said = error.to_string();
        assert!(matches!(error, InferenceError::Load { .. }) && said.contains("restart the service"), "{said}");
    };
    for name in ["fr_feature.onnx", "fr_landmark.onnx"] {
        replaced(name);
    }
    refused(models.pack.embedder(&models.runtime, &SessionOptions::default()).err().unwrap());
    refused(models.pack.finder(&models.runtime, &SessionOptions::default()).err().unwrap());
}

#[test]
fn what_killed_installations_left_goes_and_what_is_at_work_stays() {
    let (models, fresh) = (Models::new(), tempfile::tempdir().unwrap());
    let target = fresh.path().join("default");
    std::fs::create_dir_all(target.join(".partial-zip")).unwrap();
    std::fs::write(target.join(".partial-zip/fr_feature.onnx"), b"half of it").unwrap();
    std::fs::write(target.join(".partial-download"), b"half of it").unwrap();
    // Of a machine whose locks are not seen here.
    std::fs::write(target.join(".partial-elsewhere"), b"half of it").unwrap();
    let hours_old = |name: &str| {
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 3600);
        std::fs::File::open(target.join(name)).unwrap().set_modified(long_ago).unwrap();
    };
    hours_old(".partial-zip");
    hours_old(".partial-download");
    let installing = Installing::begin(&target).unwrap();
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 1);
    std::fs::remove_file(target.join(".partial-elsewhere")).unwrap();
    let download = installing.partial().unwrap();
    install_builtin("default", models.directory.path(), &target).unwrap();
    assert!(download.path().is_file(), "somebody is at work on it");
    drop((download, installing));
    std::fs::write(target.join(".partial-again"), b"half of it").unwrap();
    hours_old(".partial-again");
    install_builtin("default", models.directory.path(), &target).unwrap();
    let names: Vec<_> = std::fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), models.pack.manifest().files().count() + 1, "{names:?}");
}

#[test]
fn services_that_start_together_may_all_install_the_pack() {
    let (models, fresh) = (Models::new(), tempfile::tempdir().unwrap());
    let target = fresh.path().join("default");
    let start = std::sync::Barrier::new(6);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                start.wait();
                install_builtin("default", models.directory.path(), &target).unwrap();
            });
        }
    });
    let names: Vec<_> = std::fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), models.pack.manifest().files().count() + 1, "nothing partial is left: {names:?}");
}

fn archive(path: &Path, entries: &[(&str, &[u8])]) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, content) in entries {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn an_archive_gives_only_what_the_pack_needs() {
    let directory = tempfile::tempdir().unwrap();
    let (zip, target) = (directory.path().join("pack.zip"), directory.path().join("installed"));
    let entries: [(&str, &[u8]); 4] = [
        ("buffalo_s/det_500m.onnx", b"detector"),
        ("buffalo_s/w600k_mbf.onnx", b"embedder"),
        ("buffalo_s/genderage.onnx", b"not wanted"),
        ("../../escaped.onnx", b"evil"),
    ];
    archive(&zip, &entries);
    let pack = install_zip("buffalo_s", &zip, &target).unwrap();
    assert_eq!(pack.manifest().trust, Trust::FirstUse);
    let mut names: Vec<String> =
        std::fs::read_dir(&target).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["det_500m.onnx", "pack.toml", "w600k_mbf.onnx"]);
    assert!(std::fs::read_to_string(target.join("pack.toml")).unwrap().contains("trust on first use"));

    std::fs::write(target.join("w600k_mbf.onnx"), b"replaced").unwrap();
    assert!(matches!(Pack::open(&target), Err(PackError::Checksum { .. })));

    archive(&zip, &entries[..1]);
    let error = install_zip("buffalo_s", &zip, &target).unwrap_err();
    assert!(error.to_string().contains("w600k_mbf.onnx"), "{error}");
    std::fs::write(&zip, b"no archive").unwrap();
    assert!(matches!(install_zip("buffalo_s", &zip, &target), Err(PackError::Archive { .. })));
}

#[test]
fn what_cannot_be_installed_leaves_the_pack_that_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let (zip, target) = (directory.path().join("pack.zip"), directory.path().join("installed"));
    archive(&zip, &[("det_500m.onnx", b"detector"), ("w600k_mbf.onnx", b"embedder")]);
    let before = install_zip("buffalo_s", &zip, &target).unwrap().fingerprint();
    archive(&zip, &[("det_500m.onnx", b"another detector")]);
    assert!(install_zip("buffalo_s", &zip, &target).is_err());
    assert_eq!(Pack::open(&target).unwrap().fingerprint(), before);
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 3, "nothing partial is left");
    archive(&zip, &[("det_500m.onnx", b"detector"), ("w600k_mbf.onnx", b"another embedder")]);
    assert_ne!(install_zip("buffalo_s", &zip, &target).unwrap().fingerprint(), before);
}

#[test]
fn an_older_releases_manifest_gets_what_this_one_ships() {
    let directory = tempfile::tempdir().unwrap();
    let zip = directory.path().join("pack.zip");
    archive(&zip, &[("det_500m.onnx", b"detector"), ("w600k_mbf.onnx", b"embedder")]);
    let installed = install_zip("buffalo_s", &zip, directory.path()).unwrap();
    let path = directory.path().join("pack.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    // Another limit, and a key that this release does not know.
    let older = text.replace("score_threshold = 0.5", "score_threshold = 0.9").replace("flip = true", "mirror = true");
    assert!(PackManifest::parse(&older).is_err());
    std::fs::write(&path, older).unwrap();
    let opened = Pack::open(directory.path()).unwrap();
    assert_eq!(opened.manifest(), installed.manifest());
    assert!(opened.manifest().files().all(|file| file.sha256.len() == 64), "the checksums are of what lies there");
    // With another file it is a pack of somebody's own, by its own manifest.
    std::fs::copy(directory.path().join("w600k_mbf.onnx"), directory.path().join("mine.onnx")).unwrap();
    let own = text.replace("w600k_mbf", "mine").replace("score_threshold = 0.5", "score_threshold = 0.9");
    std::fs::write(&path, own).unwrap();
    assert_eq!(Pack::open(directory.path()).unwrap().manifest().detector.score_threshold, 0.9);

    // What a release says of a GPU stays the release's.
    let large = directory.path().join("large");
    archive(&zip, &[("det_10g.onnx", b"detector"), ("w600k_r50.onnx", b"embedder")]);
    assert!(install_zip("buffalo_l", &zip, &large).unwrap().manifest().embedder.gpu.as_ref().unwrap().nhwc);
    assert!(!std::fs::read_to_string(large.join("pack.toml")).unwrap().contains("gpu"));

    // What the operator wants of a GPU stays, and is checked.
    std::fs::write(&path, format!("{text}\n[embedder.gpu]\ncuda_graph = true\n")).unwrap();
    assert!(Pack::open(directory.path()).unwrap().manifest().embedder.gpu.as_ref().unwrap().cuda_graph);
    std::fs::write(&path, format!("{text}\n[embedder.gpu]\nbuckets = [0]\n")).unwrap();
    assert!(Pack::open(directory.path()).unwrap_err().to_string().contains("buckets"));

    let shipped = builtin_manifest("default").unwrap();
    let bare = PackManifest { calibration: None, ..shipped.clone() };
    assert_eq!(installed_manifest(&bare.to_toml().unwrap()), Ok(shipped));
}

type Install<'a> = Box<dyn Fn() -> Result<Pack, PackError> + 'a>;

#[test]
fn what_the_operator_wrote_of_a_gpu_survives_an_installation() {
    let (models, directory) = (Models::new(), tempfile::tempdir().unwrap());
    let (zip, small) = (directory.path().join("pack.zip"), directory.path().join("small"));
    archive(&zip, &[("det_500m.onnx", b"detector"), ("w600k_mbf.onnx", b"embedder")]);
    install_zip("buffalo_s", &zip, &small).unwrap();
    let (default, small) = (models.directory.path(), small.as_path());
    let again: [(&Path, Install<'_>); 2] = [
        (default, Box::new(|| install_builtin("default", default, default))),
        (small, Box::new(|| install_zip("buffalo_s", &zip, small))),
    ];
    // The SHA-256 of "half".
    let sha256 = "a11ae06469c63740d7b0ecf802f282a0d46e94f31a654dfcd3c0dc6dc277f904";
    for (place, install) in again {
        std::fs::write(place.join("half.onnx"), b"half").unwrap();
        let path = place.join("pack.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let gpu = |lines: &str| std::fs::write(&path, format!("{text}\n[embedder.gpu]\n{lines}\n")).unwrap();
        gpu(&format!("fp16 = true\nfile = {{ name = \"half.onnx\", sha256 = \"{sha256}\" }}"));
        let before = Pack::open(place).unwrap();
        let after = install().unwrap();
        assert_eq!((after.manifest(), after.fingerprint()), (before.manifest(), before.fingerprint()));
        // What is wrong with it is told, and nothing is replaced.
        gpu("buckets = [0]");
        let wrong = std::fs::read_to_string(&path).unwrap();
        assert!(install().unwrap_err().to_string().contains("embedder.gpu: buckets"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), wrong);
        // What is no manifest at all is written anew.
        std::fs::write(&path, "no manifest").unwrap();
        assert!(install().unwrap().manifest().embedder.gpu.is_none());
    }
}

#[test]
fn a_model_whose_weights_lie_in_other_files_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (zip, target) = (directory.path().join("pack.zip"), directory.path().join("installed"));
    let model = mean_colour_model(&free());
    for (embedder, whole) in [(model.clone(), true), (with_weights_elsewhere(model), false)] {
        archive(&zip, &[("det_500m.onnx", b"detector"), ("w600k_mbf.onnx", embedder.as_slice())]);
        match install_zip("buffalo_s", &zip, &target) {
            Ok(_) => assert!(whole),
            Err(error) => assert!(!whole && matches!(error, PackError::Elsewhere { .. }), "{error}"),
        }
    }
}

#[test]
fn a_path_in_the_archive_never_leads_out() {
    let directory = tempfile::tempdir().unwrap();
    let (zip, target) = (directory.path().join("pack.zip"), directory.path().join("a/b"));
    archive(&zip, &[("../../det_500m.onnx", b"detector"), ("/etc/w600k_mbf.onnx", b"embedder")]);
    install_zip("buffalo_sc", &zip, &target).unwrap();
    assert!(target.join("det_500m.onnx").is_file() && !directory.path().join("det_500m.onnx").exists());
}

#[test]
fn unknown_packs_and_broken_manifests_say_what_is_wrong() {
    for name in BUILTIN_PACKS {
        let manifest = builtin_manifest(name).unwrap();
        assert_eq!(manifest.name, name);
        assert_eq!(manifest.files().all(|f| f.sha256.len() == 64), name == "default");
    }
    assert!(builtin_manifest("buffalo_xl").unwrap_err().to_string().contains("antelopev2"));
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("pack.toml"), "name = 7").unwrap();
    assert!(matches!(Pack::open(directory.path()), Err(PackError::Manifest { .. })));
}
