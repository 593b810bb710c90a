//! `doctor` on a cache that holds one artefact.

use std::fs;
use std::process::Command;

use facewire_artifacts::doctor::{Check, CheckState};
use facewire_artifacts::progress::silent;
use facewire_artifacts::{FetchOptions, Kind, ensure};
use facewire_devstack::doctor::{DoctorOptions, doctor};

#[tokio::test]
async fn the_doctor_reads_every_byte() {
    let found = ensure(&[Kind::SampleGroup], &FetchOptions::default(), silent()).await.unwrap();
    let (cache, from) = (tempfile::tempdir().unwrap(), found.samples.group.ancestors().nth(3).unwrap().to_owned());
    assert!(Command::new("cp").arg("-r").args([&from, &cache.path().to_owned()]).status().unwrap().success());
    let dir = cache.path().join(from.file_name().unwrap());
    let fetch = FetchOptions { cache_dir: Some(cache.path().to_owned()), ..FetchOptions::default() };
    let options = DoctorOptions { fetch, ..DoctorOptions::default() };
    let state = |checks: &[Check], name: &str| {
        checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name}")).clone()
    };
    let checks = doctor(options.clone()).await.unwrap();
    assert_eq!(state(&checks, "artefact sample-group").state, CheckState::Present);
    let missing = state(&checks, "artefact postgres");
    assert!(missing.state == CheckState::Missing && !missing.fix.is_empty());
    assert_eq!(state(&checks, "cache directory").state, CheckState::Present);

    // Same size, one bit changed.
    let photo = dir.join("insightface/data/images/t1.jpg");
    let mut bytes = fs::read(&photo).unwrap();
    bytes[5000] ^= 1;
    fs::write(&photo, bytes).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let checks = doctor(DoctorOptions { ports: vec![port], ..options }).await.unwrap();
    let damaged = state(&checks, "artefact sample-group");
    assert!(damaged.state == CheckState::Wrong && damaged.detail.contains("t1.jpg"), "{damaged:?}");
    assert_eq!(state(&checks, &format!("port {port}")).state, CheckState::Wrong);
}
