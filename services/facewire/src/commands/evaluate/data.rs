//! Who is enrolled, who is probed with and who is a stranger: the same folder and the same options give the same choice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use facewire_evaluation::datasets::{
    BinSet, ImagePair, People, read_csv_pairs, read_folder, read_lfw_pairs, read_lfw_people,
};

use crate::cli::Evaluate;
use crate::commands::producer::collect;

/// A person and their photos, by index of [`Faces::files`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::commands) struct Person {
    pub(in crate::commands) name: String,
    /// Photos to enrol; none of a stranger.
    pub(in crate::commands) gallery: Vec<usize>,
    pub(in crate::commands) probes: Vec<usize>,
}

/// An open set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::commands) struct Faces {
    pub(in crate::commands) files: Vec<PathBuf>,
    /// Those to enrol, by name.
    pub(in crate::commands) people: Vec<Person>,
    /// Those who are not enrolled, by name.
    pub(in crate::commands) strangers: Vec<Person>,
    /// Those who have too few photos for either, where somebody wants them too: all their photos are probes.
    pub(in crate::commands) rest: Vec<Person>,
}

/// Pairs of a list, by index of files that are each there once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pairs {
    pub(in crate::commands) files: Vec<PathBuf>,
    pub(super) pairs: Vec<(usize, usize, bool)>,
    /// Whose each pair of one person is, where the list names people.
    pub(in crate::commands) named: bool,
}

/// What is to be evaluated.
#[derive(Debug)]
pub(super) enum Data {
    Faces(Faces),
    Pairs(Pairs),
    Bin(BinSet),
}

impl Data {
    /// Reads lists and folders; no picture is touched.
    pub(super) fn read(args: &Evaluate) -> anyhow::Result<Self> {
        match (&args.faces, &args.pairs, &args.bin) {
            (_, _, Some(bin)) => Ok(Self::Bin(BinSet::read(bin)?)),
            (root, Some(list), None) => Ok(Self::Pairs(pairs(list, root.as_deref())?)),
            (Some(faces), None, None) => Ok(Self::Faces(select(&Choice::of(args, faces))?)),
            (None, None, None) => bail!("nothing to evaluate: give --faces, --pairs or --bin"),
        }
    }
}

/// Who is asked for.
#[derive(Debug, Clone, Copy)]
pub(in crate::commands) struct Choice<'a> {
    /// `<person>/*`.
    pub(in crate::commands) folder: &'a Path,
    /// A list of the only ones that count.
    pub(in crate::commands) people: Option<&'a Path>,
    /// Of each person, photos to enrol.
    pub(in crate::commands) enroll: usize,
    /// Of each person, photos to probe with at most.
    pub(in crate::commands) probes: usize,
    /// Photos that a person must have to be enrolled.
    pub(in crate::commands) least: usize,
    /// Strangers of another folder.
    pub(in crate::commands) strangers: Option<&'a Path>,
    /// The first so many who have a single photo are strangers.
    pub(in crate::commands) singles: usize,
    /// The others are wanted too.
    pub(in crate::commands) rest: bool,
}

impl<'a> Choice<'a> {
    fn of(args: &'a Evaluate, folder: &'a Path) -> Self {
        Self {
            folder,
            people: args.people.as_deref(),
            enroll: args.enroll as usize,
            probes: args.max_probes as usize,
            least: args.least_photos(),
            strangers: args.strangers.as_deref(),
            singles: args.strangers_single.unwrap_or(0),
            rest: false,
        }
    }
}

/// Reads the folders; no picture is touched.
pub(in crate::commands) fn select(choice: &Choice) -> anyhow::Result<Faces> {
    let Choice { folder, enroll, probes, least, mut singles, .. } = *choice;
    let everybody = photos_of(&read_folder(folder)?);
    let listed: Option<HashSet<String>> = match choice.people {
        Some(list) => Some(read_lfw_people(list)?.into_iter().map(|(name, _)| name).collect()),
        None => None,
    };
    let wanted = |name: &String| listed.as_ref().is_none_or(|listed| listed.contains(name));
    let mut faces = Faces::default();
    for (name, photos) in everybody.into_iter().filter(|(name, _)| wanted(name)) {
        if photos.len() >= least {
            let mut photos = faces.take(photos, enroll.saturating_add(probes));
            let rest = photos.split_off(enroll.min(photos.len()));
            faces.people.push(Person { name, gallery: photos, probes: rest });
        } else if photos.len() == 1 && singles > 0 {
            singles -= 1;
            let probes = faces.take(photos, 1);
            faces.strangers.push(Person { name, gallery: Vec::new(), probes });
        } else if choice.rest {
            let probes = faces.take(photos, probes);
            faces.rest.push(Person { name, gallery: Vec::new(), probes });
        }
    }
    if let Some(folder) = choice.strangers {
        for (name, photos) in strangers(folder)? {
            let probes = faces.take(photos, probes);
            faces.strangers.push(Person { name, gallery: Vec::new(), probes });
        }
    }
    if faces.people.is_empty() {
        bail!("nobody in {} has {least} photos: {enroll} to enrol and the rest to probe with", folder.display());
    }
    if singles > 0 {
        let found = faces.strangers.len();
        bail!("only {found} people in {} have a single photo: --strangers-single {found}", folder.display());
    }
    let names: HashSet<&str> = faces.people.iter().chain(&faces.rest).map(|person| person.name.as_str()).collect();
    if let Some(both) = faces.strangers.iter().find(|stranger| names.contains(stranger.name.as_str())) {
        bail!("{} is among the people of {} and is a stranger as well", both.name, folder.display());
    }
    Ok(faces)
}

impl Faces {
    /// The first `most` photos, as indices.
    fn take(&mut self, photos: Vec<PathBuf>, most: usize) -> Vec<usize> {
        let first = self.files.len();
        self.files.extend(photos.into_iter().take(most));
        (first..self.files.len()).collect()
    }
}

/// Photos by name of the person, both in order.
fn photos_of(people: &People) -> BTreeMap<String, Vec<PathBuf>> {
    let mut photos: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for face in &people.faces {
        if let Some(name) = people.names.get(face.person as usize) {
            photos.entry(name.clone()).or_default().push(face.path.clone());
        }
    }
    photos
}

/// A folder for each stranger, or a file for each where there is no folder: photos of folders that cannot be read are not each of
/// another person.
fn strangers(folder: &Path) -> anyhow::Result<BTreeMap<String, Vec<PathBuf>>> {
    match read_folder(folder) {
        Ok(people) => return Ok(photos_of(&people)),
        Err(error) if has_folders(folder) => return Err(error.into()),
        Err(_) => {}
    }
    let mut strangers = BTreeMap::new();
    for file in collect(&[folder.to_owned()])? {
        strangers.insert(file.display().to_string(), vec![file]);
    }
    Ok(strangers)
}

/// Whether folders lie in it, but for hidden ones.
fn has_folders(folder: &Path) -> bool {
    let is_folder =
        |entry: std::fs::DirEntry| !entry.file_name().as_encoded_bytes().starts_with(b".") && entry.path().is_dir();
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(is_folder)))
}

fn pairs(list: &Path, root: Option<&Path>) -> anyhow::Result<Pairs> {
    let csv = list.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    let read = match (csv, root) {
        (true, Some(_)) => bail!("the paths of a CSV list are relative to its own folder: leave --faces out"),
        (true, None) => read_csv_pairs(list)?,
        (false, root) => read_lfw_pairs(list, root.or(list.parent()).unwrap_or(Path::new("")))?,
    };
    let mut index: HashMap<PathBuf, usize> = HashMap::new();
    let mut found = Pairs { named: !csv, ..Pairs::default() };
    for ImagePair { a, b, same } in read {
        let mut place = |path: PathBuf| {
            *index.entry(path).or_insert_with_key(|path| {
                found.files.push(path.clone());
                found.files.len() - 1
            })
        };
        let (a, b) = (place(a), place(b));
        found.pairs.push((a, b, same));
    }
    // Said before an hour of work, not after.
    if let Some(missing) = found.files.iter().find(|file| !file.is_file()) {
        return Err(std::io::Error::from(std::io::ErrorKind::NotFound))
            .with_context(|| format!("{}: the list names {}", list.display(), missing.display()));
    }
    Ok(found)
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    pub(in crate::commands::evaluate) fn arguments(line: &str, paths: &[&Path]) -> Evaluate {
        let words = ["facewire", "evaluate"].into_iter().chain(line.split_ascii_whitespace());
        let mut paths = paths.iter();
        let words = words.map(|word| if word == "@" { paths.next().unwrap().as_os_str() } else { word.as_ref() });
        match Cli::try_parse_from(words).unwrap().command {
            Command::Evaluate(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    /// Photos by person: empty files.
    fn folder(people: &[(&str, usize)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, photos) in people {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            (0..*photos).for_each(|n| std::fs::write(dir.path().join(name).join(format!("{n:02}.jpg")), b"").unwrap());
        }
        dir
    }

    fn faces(line: &str, paths: &[&Path]) -> Faces {
        match Data::read(&arguments(line, paths)).unwrap() {
            Data::Faces(faces) => faces,
            other => panic!("{other:?}"),
        }
    }

    fn shape(people: &[Person]) -> Vec<(&str, usize, usize)> {
        people.iter().map(|p| (p.name.as_str(), p.gallery.len(), p.probes.len())).collect()
    }

    #[test]
    fn the_first_photos_are_enrolled_and_the_choice_is_always_the_same() {
        let dir = folder(&[("c", 6), ("a", 3), ("b", 1), ("d", 1), ("e", 1), ("f", 2)]);
        let found = faces("--faces @ --enroll 2 --max-probes 3 --strangers-single 2", &[dir.path()]);
        assert_eq!(shape(&found.people), [("a", 2, 1), ("c", 2, 3)]);
        assert_eq!(shape(&found.strangers), [("b", 0, 1), ("d", 0, 1)]);
        let name = |index: usize| found.files[index].strip_prefix(dir.path()).unwrap().display().to_string();
        assert_eq!(found.people[1].gallery.iter().copied().map(name).collect::<Vec<_>>(), ["c/00.jpg", "c/01.jpg"]);
        assert_eq!(
            found.people[1].probes.iter().copied().map(name).collect::<Vec<_>>(),
            ["c/02.jpg", "c/03.jpg", "c/04.jpg"]
        );
        assert_eq!(found, faces("--faces @ --enroll 2 --max-probes 3 --strangers-single 2", &[dir.path()]));
        assert_eq!(shape(&faces("--faces @ --min-photos 6", &[dir.path()]).people), [("c", 1, 5)]);
    }

    #[test]
    fn only_the_people_of_a_list_count() {
        let dir = folder(&[("a", 3), ("b", 3), ("c", 1)]);
        let list = dir.path().join("people.txt");
        std::fs::write(&list, "2\nb\t3\nc\t1\n").unwrap();
        let found = faces("--faces @ --people @ --strangers-single 1", &[dir.path(), &list]);
        assert_eq!((shape(&found.people), shape(&found.strangers)), (vec![("b", 1, 2)], vec![("c", 0, 1)]));
    }

    #[test]
    fn strangers_are_folders_or_files() {
        let (dir, others) = (folder(&[("a", 2)]), folder(&[("x", 2), ("y", 1)]));
        let found = faces("--faces @ --strangers @", &[dir.path(), others.path()]);
        assert_eq!(shape(&found.strangers), [("x", 0, 2), ("y", 0, 1)]);
        let flat = others.path().join("x");
        assert_eq!(faces("--faces @ --strangers @", &[dir.path(), &flat]).strangers.len(), 2);
    }

    #[test]
    fn photos_in_folders_that_cannot_be_read_are_no_strangers_of_one_photo_each() {
        let (dir, others) = (folder(&[("a", 2)]), tempfile::tempdir().unwrap());
        // One folder too deep: nobody's photos lie in a folder of their own.
        std::fs::create_dir_all(others.path().join("all/x")).unwrap();
        (0..3).for_each(|n| std::fs::write(others.path().join(format!("all/x/{n}.jpg")), b"").unwrap());
        let refused = |strangers: &Path| {
            Data::read(&arguments("--faces @ --strangers @", &[dir.path(), strangers])).unwrap_err().to_string()
        };
        let said = refused(others.path());
        assert!(said.contains("a folder for each person"), "{said}");
        let said = refused(&others.path().join("none"));
        assert!(said.contains("cannot find"), "{said}");
        // Files of one stranger each may lie beside what is hidden.
        std::fs::create_dir(others.path().join("all/x/.cache")).unwrap();
        assert_eq!(faces("--faces @ --strangers @", &[dir.path(), &others.path().join("all/x")]).strangers.len(), 3);
    }

    #[test]
    fn nobody_is_a_stranger_and_somebody_else_too() {
        let (dir, others) = (folder(&[("a", 2), ("b", 1)]), folder(&[("b", 2)]));
        let chosen = |rest| {
            let (folder, strangers) = (dir.path(), Some(others.path()));
            select(&Choice { folder, people: None, enroll: 1, probes: 9, least: 2, strangers, singles: 0, rest })
        };
        // Where those who have too few photos to be enrolled are compared too, they are nobody else.
        let said = chosen(true).unwrap_err().to_string();
        assert!(said.contains("b is among the people") && said.contains("stranger as well"), "{said}");
        assert_eq!(shape(&chosen(false).unwrap().strangers), [("b", 0, 2)]);
    }

    #[test]
    fn what_cannot_be_evaluated_is_said() {
        let dir = folder(&[("a", 2), ("b", 1)]);
        let refused = |line: &str, paths: &[&Path]| Data::read(&arguments(line, paths)).unwrap_err().to_string();
        assert!(refused("--faces @ --min-photos 9", &[dir.path()]).contains("has 9 photos"));
        assert!(refused("--faces @ --strangers-single 5", &[dir.path()]).contains("--strangers-single 1"));
        assert!(refused("--faces @ --strangers @", &[dir.path(), dir.path()]).contains("stranger as well"));
        let list = dir.path().join("pairs.csv");
        std::fs::write(&list, "a/00.jpg,a/09.jpg,1\n").unwrap();
        assert!(refused("--pairs @", &[&list]).contains("09.jpg"));
        std::fs::write(&list, "a/00.jpg,a/01.jpg,1\na/01.jpg,b/00.jpg,0\n").unwrap();
        let Data::Pairs(pairs) = Data::read(&arguments("--pairs @", &[&list])).unwrap() else { panic!("no pairs") };
        assert_eq!((pairs.files.len(), pairs.pairs), (3, vec![(0, 1, true), (1, 2, false)]));
    }
}
