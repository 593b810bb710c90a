//! A folder for each person: `DIR/<person>/*.jpg`.

use std::fs;
use std::path::{Path, PathBuf};

use super::{DatasetError, at, bounded, io};

/// Extensions of images, whatever their case.
const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// An image and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Face {
    /// Index of [`People::names`].
    pub person: u32,
    /// Where it lies.
    pub path: PathBuf,
}

/// Everybody in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct People {
    /// Those who have an image, sorted.
    pub names: Vec<String>,
    /// Sorted by person, then by file name.
    pub faces: Vec<Face>,
    /// Folders without an image: nobody could be enrolled from them.
    pub empty: Vec<String>,
}

/// Reads the folders of `dir` and the images in them; it looks no deeper. Names that begin with a dot are left out, and so is a
/// symbolic link that leads out of `dir`.
///
/// # Errors
/// A folder is missing or unreadable, a name is not UTF-8, or there is no image at all.
pub fn read_folder(dir: &Path) -> Result<People, DatasetError> {
    let root = fs::canonicalize(dir).map_err(io(dir))?;
    let mut people = People::default();
    for (name, folder) in entries(dir, &root)?.into_iter().filter(|(_, path)| path.is_dir()) {
        let images: Vec<PathBuf> = entries(&folder, &root)?
            .into_iter()
            .filter(|(name, path)| is_image(name) && path.is_file())
            .map(|(_, path)| path)
            .collect();
        if images.is_empty() {
            people.empty.push(name);
            continue;
        }
        // At most MAX_ENTRIES.
        let person = people.names.len() as u32;
        people.faces.extend(images.into_iter().map(|path| Face { person, path }));
        people.names.push(name);
        bounded(0, people.faces.len()).map_err(|fault| at(dir, fault))?;
    }
    if people.faces.is_empty() {
        let problem = "no person with an image: a folder for each person with jpg, jpeg, png or webp files is expected";
        return Err(at(dir, (0, problem.to_owned())));
    }
    Ok(people)
}

fn is_image(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// What lies in a folder and inside of `root`, sorted by name.
fn entries(folder: &Path, root: &Path) -> Result<Vec<(String, PathBuf)>, DatasetError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io(folder))? {
        let entry = entry.map_err(io(folder))?;
        let path = entry.path();
        let name = entry.file_name().into_string().map_err(|_| at(&path, (0, "the name is not UTF-8".to_owned())))?;
        let link = entry.file_type().map_err(io(&path))?.is_symlink();
        let inside = |path: &Path| fs::canonicalize(path).is_ok_and(|target| target.starts_with(root));
        if name.starts_with('.') || link && !inside(&path) {
            continue;
        }
        found.push((name, path));
        bounded(0, found.len()).map_err(|fault| at(folder, fault))?;
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dir: &Path, path: &str) {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"x").unwrap();
    }

    #[test]
    fn people_are_folders_and_faces_are_sorted() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["d/Bob/2.JPG", "d/Bob/1.png", "d/Bob/notes.txt", "d/Ann/x.webp", "d/Ann/deep/y.jpg"] {
            put(dir.path(), path);
        }
        for path in ["d/stray.jpg", "d/.git/a.jpg", "d/Cy/readme"] {
            put(dir.path(), path);
        }
        let people = read_folder(&dir.path().join("d")).unwrap();
        assert_eq!(
            (people.names.as_slice(), people.empty.as_slice()),
            (["Ann", "Bob"].map(str::to_owned).as_slice(), ["Cy".to_owned()].as_slice())
        );
        let faces: Vec<(u32, &str)> =
            people.faces.iter().map(|f| (f.person, f.path.file_name().unwrap().to_str().unwrap())).collect();
        assert_eq!(faces, [(0, "x.webp"), (1, "1.png"), (1, "2.JPG")]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_folder_is_not_followed() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "d/Ann/1.jpg");
        put(dir.path(), "secret/2.jpg");
        symlink(dir.path().join("secret"), dir.path().join("d/Eve")).unwrap();
        symlink(dir.path().join("secret/2.jpg"), dir.path().join("d/Ann/2.jpg")).unwrap();
        symlink(dir.path().join("d/Ann/1.jpg"), dir.path().join("d/Ann/3.jpg")).unwrap();
        symlink(dir.path().join("d"), dir.path().join("d/Ann/loop")).unwrap();
        let people = read_folder(&dir.path().join("d")).unwrap();
        assert_eq!(people.names, ["Ann"]);
        let names: Vec<&str> = people.faces.iter().map(|f| f.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["1.jpg", "3.jpg"]);
    }

    #[test]
    fn a_folder_without_people_says_what_is_expected() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_folder(dir.path()).unwrap_err().to_string().contains("a folder for each person"));
        assert!(matches!(read_folder(&dir.path().join("none")), Err(DatasetError::Io { .. })));
    }
}
