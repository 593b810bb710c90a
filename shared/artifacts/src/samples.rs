//! Which sample image shows whom.

use std::path::PathBuf;

/// The sample faces of the default demo, once [`super::Kind::SamplePhotos`] and [`super::Kind::SampleGroup`] are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples {
    /// The directory of the photos of two people.
    pub photos: PathBuf,
    /// The directory of the group photo.
    pub group: PathBuf,
}

/// A person with photos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// An id as a caller would give it.
    pub subject: &'static str,
    /// The display name.
    pub name: &'static str,
    /// The photo to enrol.
    pub enroll: PathBuf,
    /// Other photos of the same person that a camera could have taken.
    pub probes: Vec<PathBuf>,
    /// Photos cut through the face: a gate may rightly reject them.
    pub partial: Vec<PathBuf>,
}

impl Samples {
    /// The people to enrol.
    pub fn people(&self) -> Vec<Person> {
        let photos = |names: &[&str]| names.iter().map(|name| self.photos.join(name)).collect();
        vec![
            Person {
                subject: "barack-obama",
                name: "Barack Obama",
                enroll: self.photos.join("obama.jpg"),
                // 32bit.png is obama2.jpg with an alpha channel.
                probes: photos(&["obama2.jpg", "obama3.jpg", "32bit.png"]),
                partial: photos(&["obama_partial_face.jpg", "obama_partial_face2.jpg"]),
            },
            Person {
                subject: "joe-biden",
                name: "Joe Biden",
                enroll: self.photos.join("biden.jpg"),
                probes: Vec::new(),
                partial: Vec::new(),
            },
        ]
    }

    /// Faces of nobody above, one each: a match of one of them is a mistake.
    pub fn strangers(&self) -> Vec<PathBuf> {
        vec![self.group.join("Tom_Hanks_54745.png")]
    }

    /// A photo of six people, none of them above.
    pub fn group_photo(&self) -> PathBuf {
        self.group.join("t1.jpg")
    }
}
