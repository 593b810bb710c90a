//! Who may be enrolled: judged on what the rows say, item after item, so that a batch meets its own earlier items. Pure;
//! reading and writing the rows is `enrol`'s work, and it holds the lock that keeps them still meanwhile.

use std::collections::{BTreeMap, HashMap, HashSet};

use facewire_domain::{CollectionId, FaceId, PersonId};
use uuid::Uuid;

use crate::face_record::VectorState;
use crate::new_face::{ConflictKind, Enrolment, NewFace};
use crate::persons::{MERGES, name_key};

/// Longest name in characters; the rest is cut off.
const NAME_LENGTH: usize = 256;

/// A person's row, as far as it matters here.
#[derive(Debug, Clone)]
pub(crate) struct KnownPerson {
    pub(crate) name: String,
    pub(crate) merged_into: Option<Uuid>,
}

/// A face's row, as far as it matters here.
#[derive(Debug, Clone)]
pub(crate) struct KnownFace {
    /// None where somebody took it from everybody.
    pub(crate) person: Option<Uuid>,
    pub(crate) crop: Option<Uuid>,
    pub(crate) model: String,
    pub(crate) state: VectorState,
}

/// What is in the rows that the batch can meet.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) persons: HashMap<Uuid, KnownPerson>,
    /// By collection and subject id.
    pub(crate) subjects: HashMap<(String, String), Uuid>,
    /// By collection and name key.
    pub(crate) names: HashMap<(String, String), Uuid>,
    pub(crate) faces: HashMap<Uuid, KnownFace>,
    /// The face of an image, tombstoned ones left out; by collection and hash.
    pub(crate) images: HashMap<(String, [u8; 32]), Uuid>,
    /// Faces and persons whose they are said not to be.
    pub(crate) negatives: HashSet<(Uuid, Uuid)>,
    /// Positions of items that were received before what they concern was erased.
    pub(crate) erased: HashSet<usize>,
    /// Who is just being erased: whoever made them anew now would be named in streams that the erasure has been through.
    pub(crate) being_erased: HashSet<Uuid>,
}

/// A person to write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PersonWrite {
    pub(crate) collection: String,
    pub(crate) subject: String,
    pub(crate) name: String,
}

/// What to write and what to answer.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// One for each item, in order.
    pub(crate) answers: Vec<Enrolment>,
    pub(crate) persons: BTreeMap<Uuid, PersonWrite>,
    /// The collection and the new name.
    pub(crate) renames: BTreeMap<Uuid, (String, String)>,
    /// By face id: the item to store, and whose it is.
    pub(crate) faces: BTreeMap<Uuid, (usize, Uuid)>,
}

/// Judges a batch, in its order.
pub(crate) fn plan(batch: &[&NewFace], mut known: Known) -> Plan {
    let mut plan = Plan::default();
    for (index, item) in batch.iter().enumerate() {
        let answer = judge(index, item, &mut known, &mut plan);
        plan.answers.push(answer);
    }
    plan
}

fn judge(index: usize, item: &NewFace, known: &mut Known, plan: &mut Plan) -> Enrolment {
    let collection = item.collection.as_str().to_owned();
    let subject_key = (collection.clone(), item.subject.as_str().to_owned());
    let known_id = known.subjects.get(&subject_key).copied();
    let id = known_id.unwrap_or_else(|| PersonId::derive(&item.collection, &item.subject).as_uuid());
    let person = known.survivor(id);

    let image_key = (collection.clone(), *item.image_hash.as_bytes());
    let same_image = known.images.get(&image_key).copied();
    let face = same_image.unwrap_or_else(|| face_of(&item.collection, item).as_uuid());
    if let Some((kind, whose)) = known.objection(index, face, id, person) {
        return Enrolment::Conflict { kind, person: whose.into() };
    }
    // What its own crop has enrolled was named then. Somebody may have changed that name since, or given it to another person.
    let crop = item.crop.map(|crop| crop.as_uuid());
    if known.faces.get(&face).is_some_and(|there| there.is_of(crop)) {
        return known.add_face(face, person, image_key, item, index, plan);
    }

    // A person who is known keeps the name unless another one is asked for; a new one is called as their subject.
    let asked = item.name.as_deref().and_then(clean_name);
    let name = asked.or_else(|| known_id.is_none().then(|| subject_name(item)));
    let key = name.as_deref().map(|name| (collection.clone(), name_key(name)));
    let holder = key.as_ref().and_then(|key| known.names.get(key).copied());
    if let Some(owner) = holder.map(|holder| known.survivor(holder)).filter(|owner| *owner != person) {
        return Enrolment::Conflict { kind: ConflictKind::NameTaken, person: owner.into() };
    }

    if let (Some(name), Some(key)) = (name, key) {
        if known_id.is_none() {
            known.add_person(id, subject_key, key, &name);
            plan.persons.insert(id, PersonWrite { collection, subject: item.subject.as_str().to_owned(), name });
        } else if id == person && holder.is_none_or(|holder| holder == id) {
            known.rename(id, key, name, plan);
        }
    }
    known.add_face(face, person, image_key, item, index, plan)
}

impl Known {
    /// The person that an id leads to after merges.
    fn survivor(&self, mut id: Uuid) -> Uuid {
        for _ in 0..MERGES {
            match self.persons.get(&id).and_then(|person| person.merged_into) {
                Some(next) => id = next,
                None => break,
            }
        }
        id
    }

    /// Why a face may not be this person's, whatever their name; and whose it is instead, or whom it concerns. `id` is theirs before
    /// merges.
    fn objection(&self, index: usize, face: Uuid, id: Uuid, person: Uuid) -> Option<(ConflictKind, Uuid)> {
        let there = self.faces.get(&face).filter(|known| known.state != VectorState::Tombstoned);
        let owner = there.and_then(|known| known.person).map(|owner| self.survivor(owner));
        let is_erased = self.erased.contains(&index) || [id, person].iter().any(|one| self.being_erased.contains(one));
        // Also one that is there and nobody's: what was said of it went with the person.
        if owner.is_none() && is_erased {
            return Some((ConflictKind::Erased, person));
        }
        match owner {
            Some(owner) if owner == person => None,
            Some(owner) => Some((ConflictKind::ImageOfOther, owner)),
            None => self.negatives.contains(&(face, person)).then_some((ConflictKind::NotThisPerson, person)),
        }
    }

    fn add_person(&mut self, id: Uuid, subject: (String, String), key: (String, String), name: &str) {
        self.persons.insert(id, KnownPerson { name: name.to_owned(), merged_into: None });
        self.subjects.insert(subject, id);
        self.names.insert(key, id);
    }

    /// The name is free or the person's own in another case. Their former name stays theirs until the batch is written.
    fn rename(&mut self, id: Uuid, key: (String, String), name: String, plan: &mut Plan) {
        let Some(person) = self.persons.get_mut(&id).filter(|person| person.name != name) else { return };
        person.name.clone_from(&name);
        let collection = key.0.clone();
        self.names.insert(key, id);
        match plan.persons.get_mut(&id) {
            Some(new) => new.name = name,
            None => drop(plan.renames.insert(id, (collection, name))),
        }
    }

    /// A face that is there with the same model answers for itself; one of another model, or a tombstoned one, is enrolled
    /// anew under its id.
    fn add_face(
        &mut self,
        face: Uuid,
        person: Uuid,
        image: (String, [u8; 32]),
        item: &NewFace,
        index: usize,
        plan: &mut Plan,
    ) -> Enrolment {
        let ids = (PersonId::from(person), FaceId::from(face));
        let crop = item.crop.map(|crop| crop.as_uuid());
        let there = self.faces.get(&face);
        if there.is_some_and(|known| known.was_taken_since(crop)) {
            return Enrolment::AlreadyIndexed { person: ids.0, face: ids.1, same_crop: true };
        }
        match there.filter(|known| known.model == item.model && known.person.is_some()) {
            Some(KnownFace { state: VectorState::Indexed, crop: first, .. }) => {
                let same_crop = crop.is_some() && crop == *first;
                return Enrolment::AlreadyIndexed { person: ids.0, face: ids.1, same_crop };
            }
            Some(KnownFace { state: VectorState::Pending, crop: first, .. }) => {
                return Enrolment::Pending { person: ids.0, face: ids.1, same_crop: crop == *first };
            }
            // Waiting for its image: here it is.
            Some(KnownFace { state: VectorState::Tombstoned | VectorState::Reembed, .. }) | None => {}
        }
        self.faces.insert(
            face,
            KnownFace { person: Some(person), crop, model: item.model.clone(), state: VectorState::Pending },
        );
        self.images.insert(image, face);
        plan.faces.insert(face, (index, person));
        Enrolment::Pending { person: ids.0, face: ids.1, same_crop: true }
    }
}

impl KnownFace {
    /// This crop enrolled it, and comes once more.
    fn is_of(&self, crop: Option<Uuid>) -> bool {
        self.state != VectorState::Tombstoned && crop.is_some() && crop == self.crop
    }

    /// The same, and somebody took it from the person before the crop came once more: that stands.
    fn was_taken_since(&self, crop: Option<Uuid>) -> bool {
        self.person.is_none() && self.is_of(crop)
    }
}

fn face_of(collection: &CollectionId, item: &NewFace) -> FaceId {
    FaceId::derive(collection, &item.subject, &item.image_hash)
}

/// A name without control characters, trimmed and of bounded length; none where nothing is left.
pub(crate) fn clean_name(name: &str) -> Option<String> {
    let visible: String = name.chars().filter(|c| !c.is_control()).collect();
    let clean: String = visible.trim().chars().take(NAME_LENGTH).collect();
    let clean = clean.trim_end();
    (!clean.is_empty()).then(|| clean.to_owned())
}

fn subject_name(item: &NewFace) -> String {
    clean_name(item.subject.as_str()).unwrap_or_else(|| item.subject.as_str().to_owned())
}

/// The keys under which a batch may meet rows: collections with subjects, with names, with images; and face ids.
#[derive(Debug, Default)]
pub(crate) struct Keys<'a> {
    pub(crate) collections: Vec<&'a str>,
    pub(crate) subjects: Vec<&'a str>,
    pub(crate) names: Vec<String>,
    pub(crate) images: Vec<&'a [u8]>,
    pub(crate) faces: Vec<Uuid>,
}

/// The keys of a batch, parallel arrays in its order.
pub(crate) fn keys<'a>(batch: &[&'a NewFace]) -> Keys<'a> {
    let mut keys = Keys::default();
    for item in batch {
        let name = item.name.as_deref().and_then(clean_name).unwrap_or_else(|| subject_name(item));
        keys.collections.push(item.collection.as_str());
        keys.subjects.push(item.subject.as_str());
        keys.names.push(name_key(&name));
        keys.images.push(item.image_hash.as_bytes());
        keys.faces.push(face_of(&item.collection, item).as_uuid());
    }
    keys
}
