//! Everybody against everybody on clean photos, pairs of a list, and groups of people.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, bail};
use facewire_domain::{Quality, cosine};
use facewire_evaluation::bootstrap::fnmr_tallies;
use facewire_evaluation::datasets::Attributes;
use facewire_evaluation::report::{OpenSetRates, PairRates, Subgroup};
use facewire_evaluation::verification::{Pair, Verification, insightface};
use facewire_evaluation::{
    Comparisons, Embeddings, FMR_TARGETS, GenuinePair, Resampling, Scores, SplitMix64, all_against_all, bootstrap,
};

use super::data::{Faces, Pairs};
use super::identify::{Experiment, clean, everybody};
use super::seen::{Seen, Standard};

/// Faces that are compared with each other at most: with many more the impostors would not fit into memory.
pub(in crate::commands) const MOST: usize = 14_000;
/// Groups are compared at the threshold of this FMR over all.
const GROUP_FMR: f64 = 1e-3;

/// Clean faces and whose they are.
pub(in crate::commands) struct Rows {
    embeddings: Embeddings,
    people: Vec<u32>,
    qualities: Vec<Option<Quality>>,
    /// What was left out because there is too much.
    pub(in crate::commands) left_out: LeftOut,
}

/// Whole people, with all of their faces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::commands) struct LeftOut {
    faces: usize,
    people: usize,
}

impl LeftOut {
    /// What a reader must know of it; nothing where nobody is missing.
    pub(in crate::commands) fn note(self) -> Option<String> {
        let Self { faces, people } = self;
        let note = || {
            format!(
                "All against all leaves out {faces} photos ({people} people with all of theirs): there are too many."
            )
        };
        (faces > 0).then(note)
    }
}

/// Whose face it is, and its embedding.
type Face<'a> = (u32, &'a Seen, &'a [f32]);

impl Rows {
    /// Everybody's clean photos that pass.
    pub(super) fn new(experiment: &Experiment, standard: &Standard) -> anyhow::Result<Self> {
        let photos = everybody(experiment.faces).flat_map(|(index, _, person)| {
            let photos = person.gallery.iter().chain(&person.probes);
            photos.filter_map(move |photo| Some((index, clean(experiment.sights, *photo)?)))
        });
        let passed = photos.filter(|(_, seen)| seen.refusal(standard).is_none());
        Self::of_faces(passed, experiment.dim, MOST, |seen| experiment.judging.quality(seen))
    }

    /// Faces and whose they are, those of a person one after another; of more than `most` whole people are left out.
    pub(in crate::commands) fn of_faces<'a>(
        faces: impl Iterator<Item = (u32, &'a Seen)>,
        dim: usize,
        most: usize,
        quality: impl Fn(&Seen) -> Option<Quality>,
    ) -> anyhow::Result<Self> {
        let embedded = faces.filter_map(|(person, seen)| Some((person, seen, seen.embedding()?)));
        let all: Vec<Face> = embedded.collect();
        let kept = thinned(&all, most);
        let left_out =
            LeftOut { faces: all.len() - kept.len(), people: people_among(&all).count() - people_among(&kept).count() };
        let mut rows = Self { embeddings: Embeddings::new(dim), people: Vec::new(), qualities: Vec::new(), left_out };
        for (person, seen, embedding) in kept {
            rows.embeddings.push(embedding)?;
            rows.people.push(person);
            rows.qualities.push(quality(seen));
        }
        Ok(rows)
    }

    /// People and faces that are compared.
    pub(in crate::commands) fn size(&self) -> (usize, usize) {
        (self.people.chunk_by(|a, b| a == b).count(), self.people.len())
    }

    pub(in crate::commands) fn compare(&self) -> anyhow::Result<Comparisons> {
        Ok(all_against_all(&self.embeddings, &self.people)?)
    }

    /// Pairs of one person with what was measured on both photos.
    pub(super) fn genuine(&self) -> Vec<(f32, &Quality, &Quality)> {
        let mut by_person: BTreeMap<u32, Vec<(&Quality, &[f32])>> = BTreeMap::new();
        for ((person, quality), embedding) in self.people.iter().zip(&self.qualities).zip(self.embeddings.rows()) {
            let photos = by_person.entry(*person).or_default();
            photos.extend(quality.as_ref().map(|quality| (quality, embedding)));
        }
        let mut pairs = Vec::new();
        for photos in by_person.values() {
            for (number, (quality, embedding)) in photos.iter().enumerate() {
                let others = photos.iter().skip(number + 1);
                pairs.extend(others.map(|(other, face)| (cosine(embedding, face), *quality, *other)));
            }
        }
        pairs
    }

    /// Only these people.
    fn of(&self, people: &[u32]) -> anyhow::Result<Comparisons> {
        let (mut embeddings, mut labels) = (Embeddings::new(self.embeddings.dim()), Vec::new());
        for (person, row) in self.people.iter().zip(self.embeddings.rows()).filter(|(p, _)| people.contains(p)) {
            embeddings.push(row)?;
            labels.push(*person);
        }
        Ok(all_against_all(&embeddings, &labels)?)
    }
}

/// As many whole people as have `most` faces together. Half of somebody's photos would have a quarter of their pairs, and
/// would leave out first of all those who have few. Who stays is the same each time, and follows from nothing that is known of
/// anybody. Who alone has more than half of `most` stays with an even part of their photos.
fn thinned<'a>(all: &[Face<'a>], most: usize) -> Vec<Face<'a>> {
    if all.len() <= most {
        return all.to_vec();
    }
    let mut people: Vec<&[Face]> = people_among(all).collect();
    // An order without a pattern.
    people.sort_by_key(|faces| faces.first().map(|(person, ..)| SplitMix64::nth(0, u64::from(*person))));
    let mut kept: Vec<Face> = Vec::new();
    for faces in people {
        let theirs = faces.iter().step_by(faces.len().div_ceil(most.div_ceil(2).max(1)).max(1));
        // Going on with whoever still fits would prefer people of few photos.
        if kept.len() + theirs.len() > most {
            break;
        }
        kept.extend(theirs.copied());
    }
    kept.sort_by_key(|(person, ..)| *person);
    kept
}

/// The faces of each person.
fn people_among<'a, 'b>(faces: &'b [Face<'a>]) -> impl Iterator<Item = &'b [Face<'a>]> {
    faces.chunk_by(|a, b| a.0 == b.0)
}

/// Rates of all pairs, and the scores.
pub(super) fn rates(compared: Comparisons, resampling: Resampling) -> anyhow::Result<(PairRates, Scores)> {
    let genuine = compared.genuine.clone();
    let scores = compared.into_scores()?;
    Ok((PairRates::new(&scores, &genuine, &FMR_TARGETS, resampling), scores))
}

/// Whose a value of an attribute is: people, and whether they are known.
type Members = Vec<(u32, bool)>;

/// Groups of people who are here.
pub(super) struct Groups {
    /// Attribute, value and whose it is.
    members: Vec<(String, String, Members)>,
    /// What a reader must know of the table.
    pub(super) note: Option<String>,
}

impl Groups {
    /// Reads a table of attributes.
    pub(super) fn read(faces: &Faces, table: &Path) -> anyhow::Result<Self> {
        let attributes = Attributes::read(table)?;
        let plain = |name: &str| name.replace(' ', "_");
        let index: HashMap<String, (u32, bool)> =
            everybody(faces).map(|(index, known, person)| (plain(&person.name), (index, known))).collect();
        let strange: Vec<&String> = attributes.rows.keys().filter(|name| !index.contains_key(&plain(name))).collect();
        let (all, table) = (attributes.rows.len(), table.display());
        if strange.len() == all {
            let first = strange.first().map(|name| format!(" (first: {name})")).unwrap_or_default();
            bail!("nobody here has one of the {all} names in {table}{first}");
        }
        let note = strange
            .first()
            .map(|first| format!("Of {all} names in {table}, {} are nobody's here (first: {first}).", strange.len()));
        let group = |((attribute, value), names): ((&str, &str), Vec<&str>)| {
            let mut members: Members = names.iter().filter_map(|name| index.get(&plain(name)).copied()).collect();
            // One person may be there with a space and with an underscore.
            members.sort_unstable();
            members.dedup();
            (attribute.to_owned(), value.to_owned(), members)
        };
        let members = attributes.subgroups().into_iter().map(group).filter(|(.., members)| !members.is_empty());
        Ok(Self { members: members.collect(), note })
    }
}

/// Rates by group, at a threshold of all and, for identification, at the one that is applied.
pub(super) fn groups(
    experiment: &Experiment,
    rows: &Rows,
    scores: &Scores,
    groups: &Groups,
    operating: Option<f32>,
    resampling: Resampling,
) -> anyhow::Result<(Vec<Subgroup>, Vec<OpenSetRates>)> {
    let threshold = scores.threshold_at_fmr(GROUP_FMR).context("there are no impostors to compare groups with")?;
    let (mut subgroups, mut open_sets) = (Vec::new(), Vec::new());
    for (attribute, value, members) in &groups.members {
        let people: Vec<u32> = members.iter().map(|(person, _)| *person).collect();
        let compared = rows.of(&people)?;
        let fnmr_interval = bootstrap::error_rate(&fnmr_tallies(&compared.genuine, threshold), resampling);
        let scores = compared.into_scores()?;
        let (attribute, value) = (attribute.clone(), value.clone());
        if let Some(operating) = operating.filter(|_| members.iter().any(|(_, known)| *known)) {
            let (gate, name) = (experiment.judging.gate, format!("{attribute}: {value}"));
            let found = OpenSetRates::new(&name, &experiment.group(gate, &people)?, &[], &[operating], resampling);
            // Whoever is enrolled is in the gallery that rates depend on, of this group or not.
            open_sets.push(OpenSetRates { people: experiment.people_enrolled(gate), ..found });
        }
        let (people, fmr, fnmr) = (people.len() as u64, scores.fmr(threshold), scores.fnmr(threshold));
        subgroups.push(Subgroup { attribute, value, people, threshold, fmr, fnmr, fnmr_interval });
    }
    Ok((subgroups, open_sets))
}

/// A list of pairs, judged by the protocol and by rates. `seen` are both images of each pair.
pub(super) fn verify<'a>(
    pairs: impl Iterator<Item = (&'a Seen, &'a Seen, bool)>,
    standard: &Standard,
    people: Option<&[u32]>,
    resampling: Resampling,
) -> anyhow::Result<(Option<Verification>, PairRates)> {
    let acquired = |seen: &'a Seen| seen.embedding().filter(|_| seen.refusal(standard).is_none());
    let pair = |(a, b, same): (&'a Seen, &'a Seen, bool)| {
        let similarity = acquired(a).zip(acquired(b)).map(|(a, b)| cosine(a, b));
        Pair { same, similarity }
    };
    let pairs: Vec<Pair> = pairs.map(pair).collect();
    let of = |same: bool| pairs.iter().filter(move |pair| pair.same == same).filter_map(|pair| pair.similarity);
    let scores = Scores::new(of(true).collect(), of(false).collect())?;
    let genuine: Vec<GenuinePair> = match people {
        Some(people) => pairs
            .iter()
            .zip(people)
            .filter(|(pair, _)| pair.same)
            .filter_map(|(pair, person)| {
                Some(GenuinePair { person: *person, rows: (0, 0), similarity: pair.similarity? })
            })
            .collect(),
        None => Vec::new(),
    };
    // Fewer than ten pairs make no folds.
    let verification =
        if pairs.len() < facewire_evaluation::verification::FOLDS { None } else { Some(insightface(&pairs)?) };
    Ok((verification, PairRates::new(&scores, &genuine, &FMR_TARGETS, resampling)))
}

/// Whose the first image of each pair is, by its folder.
pub(super) fn people_of(pairs: &Pairs) -> Option<Vec<u32>> {
    if !pairs.named {
        return None;
    }
    let mut index: HashMap<&Path, u32> = HashMap::new();
    let person = |(a, _, _): &(usize, usize, bool)| {
        let folder = pairs.files.get(*a)?.parent()?;
        let next = u32::try_from(index.len()).ok()?;
        Some(*index.entry(folder).or_insert(next))
    };
    pairs.pairs.iter().map(person).collect()
}

#[cfg(test)]
mod tests {
    use super::super::identify::tests::{judging, sample};
    use super::super::seen::tests::{face, no_face};
    use super::*;
    use facewire_vision::Camera;

    #[test]
    fn everybody_is_compared_and_groups_are_told_apart() {
        let (mut faces, sights) = sample();
        faces.people[0].name = "a a".to_owned();
        let experiment =
            Experiment::new((&faces, &sights), &[Camera::Clean, Camera::Dark], judging(false, None), 2).unwrap();
        let rows = Rows::new(&experiment, &Standard::OPEN).unwrap();
        let compared = rows.compare().unwrap();
        assert_eq!((compared.genuine.len(), compared.impostor.len()), (2, 8));
        assert_eq!((rows.size(), rows.left_out), ((3, 5), LeftOut::default()));
        let similarities: Vec<f32> = rows.genuine().iter().map(|(similarity, ..)| *similarity).collect();
        assert_eq!(similarities, compared.genuine.iter().map(|pair| pair.similarity).collect::<Vec<_>>());
        let resampling = Resampling { resamples: 10, seed: 1 };
        let (_, scores) = rates(compared, resampling).unwrap();
        let table = tempfile::NamedTempFile::new().unwrap();
        let read = |rows: &str| {
            std::fs::write(table.path(), rows).unwrap();
            Groups::read(&faces, table.path())
        };
        let named = read("name,side\na a,left\na_a,left\nb,left\nc,right\nnobody,right\n").unwrap();
        let note = named.note.clone().unwrap();
        assert!(note.contains("Of 5 names") && note.contains("1 are nobody's here (first: nobody)"), "{note}");
        assert_eq!(read("name,side\nb,left\n").unwrap().note, None);
        let strange = read("name,side\nnobody,left\nnone,left\n").err().unwrap().to_string();
        assert!(strange.contains("2 names") && strange.contains("(first: nobody)"), "{strange}");
        let (groups, sets) = groups(&experiment, &rows, &scores, &named, Some(0.8), resampling).unwrap();
        let told: Vec<(&str, u64, u64)> =
            groups.iter().map(|group| (group.value.as_str(), group.people, group.fnmr.trials)).collect();
        assert_eq!(told, [("left", 2, 2), ("right", 1, 0)]);
        // A group of strangers alone is nobody to be found.
        assert_eq!((sets.len(), sets[0].name.as_str(), sets[0].known, sets[0].people), (1, "side: left", 4, 2));
    }

    #[test]
    fn of_too_many_faces_whole_people_stay() {
        let seen = face(Quality::default(), [1.0, 0.0]);
        // 200 people of one to four photos: 500.
        let all: Vec<(u32, &Seen)> =
            (0..200u32).flat_map(|person| std::iter::repeat_n((person, &seen), person as usize % 4 + 1)).collect();
        let rows = |most: usize| Rows::of_faces(all.iter().copied(), 2, most, |_| None).unwrap();
        assert_eq!((rows(500).size(), rows(500).left_out.note()), ((200, 500), None));
        let (few, again) = (rows(250), rows(250));
        let (people, faces) = few.size();
        assert!((247..=250).contains(&faces), "{faces}");
        assert_eq!(few.left_out, LeftOut { faces: 500 - faces, people: 200 - people });
        assert!(few.left_out.note().unwrap().contains(&format!("{} people", 200 - people)));
        for person in few.people.chunk_by(|a, b| a == b) {
            assert_eq!(person.len(), person[0] as usize % 4 + 1, "with all of their photos");
        }
        assert_eq!(few.people, again.people, "the same each time");
        // Those of one photo and those of four, of the first and of the last: about half of each.
        for part in [0..100, 100..200] {
            let half = few.people.chunk_by(|a, b| a == b).filter(|person| part.contains(&person[0])).count();
            assert!((30..=70).contains(&half), "{half} of {part:?}");
        }
        for photos in 1..=4 {
            let half = few.people.chunk_by(|a, b| a == b).filter(|person| person.len() == photos).count();
            assert!((12..=38).contains(&half), "{half} of 50 with {photos}");
        }
        let alone = Rows::of_faces(std::iter::repeat_n((7, &seen), 100), 2, 20, |_| None).unwrap();
        assert_eq!(alone.size(), (1, 10), "half of what may be compared is nobody's alone");
    }

    #[test]
    fn a_refused_image_makes_its_pair_one_that_was_not_acquired() {
        let (a, b) = (face(Quality::default(), [1.0, 0.0]), face(Quality::default(), [0.6, 0.8]));
        let none = no_face();
        let pairs = || std::iter::repeat_n((&a, &b, true), 9).chain([(&a, &none, true)]);
        let resampling = Resampling { resamples: 10, seed: 1 };
        let (found, rates) = verify(pairs(), &Standard::OPEN, None, resampling).unwrap();
        assert_eq!((found.unwrap().not_acquired, rates.genuine), (1, 9));
        let (found, rates) = verify(pairs().take(9), &Standard::OPEN, Some(&[0; 9]), resampling).unwrap();
        assert_eq!((found, rates.genuine), (None, 9));
    }
}
