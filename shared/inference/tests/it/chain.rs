//! Recognition as a whole: the pairs at the default threshold, and people found again.

use std::collections::HashMap;
use std::path::Path;

use facewire_inference::{FaceEmbedder, FaceFind, FaceFinder, measure};
use facewire_vision::Lit;

use crate::assets::{Models, cosine, data, picture};

const THRESHOLD: f32 = 0.36;

/// The embedding of the largest face of a picture.
pub(crate) fn embedding(finder: &mut FaceFinder, embedder: &mut dyn FaceEmbedder, path: &Path) -> Vec<f32> {
    let image = picture(path);
    let faces = finder.find(&image).unwrap();
    let largest = faces.iter().max_by(|a, b| a.bbox.area().total_cmp(&b.bbox.area()));
    let face = largest.unwrap_or_else(|| panic!("{}: no face", path.display()));
    embedder.embed(&[measure(&Lit::new(&image), face).unwrap().face]).unwrap().remove(0)
}

#[test]
fn every_pair_is_told_right() {
    let Some(data) = data() else { return };
    let models = Models::new();
    let (mut finder, mut embedder) = (models.finder(), models.embedder());
    let mut known: HashMap<String, Vec<f32>> = HashMap::new();
    let csv = std::fs::read_to_string(data.join("pairs/pairs.csv")).unwrap();
    let mut counted = [0; 2];
    for line in csv.lines().skip(1) {
        let mut fields = line.split(',');
        let (left, right) = (fields.next().unwrap(), fields.next().unwrap());
        let same = fields.next() == Some("1");
        for name in [left, right] {
            if !known.contains_key(name) {
                let found = embedding(&mut finder, embedder.as_mut(), &data.join("pairs").join(name));
                known.insert(name.to_owned(), found);
            }
        }
        let similarity = cosine(&known[left], &known[right]);
        assert_eq!(similarity >= THRESHOLD, same, "{left} and {right}: {similarity}");
        counted[usize::from(same)] += 1;
    }
    assert!(counted[0] > 200 && counted[1] >= 30, "{counted:?} pairs were compared");
}

#[test]
fn people_are_found_again() {
    let Some(data) = data() else { return };
    let models = Models::new();
    let (mut finder, mut embedder) = (models.finder(), models.embedder());
    let mut gallery = Vec::new();
    for person in ["alex_lacamoire", "biden", "kit_harington", "obama", "rose_leslie"] {
        for entry in std::fs::read_dir(data.join("people/enroll").join(person)).unwrap() {
            gallery.push((person, embedding(&mut finder, embedder.as_mut(), &entry.unwrap().path())));
        }
    }
    assert_eq!(gallery.len(), 9);
    let probes = [
        ("obama1", "obama"),
        ("obama_partial_face", "obama"),
        ("johnsnow_test1", "kit_harington"),
        ("alex_lacamoire1", "alex_lacamoire"),
    ];
    for (probe, person) in probes {
        let found = embedding(&mut finder, embedder.as_mut(), &data.join(format!("people/probe/{probe}.jpg")));
        let best = gallery.iter().map(|(who, face)| (cosine(face, &found), *who)).max_by(|a, b| a.0.total_cmp(&b.0));
        let (similarity, who) = best.unwrap();
        assert!(who == person && similarity >= THRESHOLD, "{probe}: {who} at {similarity}");
    }
}
