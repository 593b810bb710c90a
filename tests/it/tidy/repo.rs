//! The files that the rules look at: those that git tracks or would track, or, without git, what lies there.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of the repository.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
}

impl File {
    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// All files, read.
#[derive(Debug, Clone)]
pub(crate) struct Repo {
    pub(crate) files: Vec<File>,
}

impl Repo {
    /// This workspace.
    pub(crate) fn here() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        Self::at(root)
    }

    pub(crate) fn at(root: &Path) -> Self {
        let paths = tracked(root).unwrap_or_else(|| walk(root));
        let read = |path: PathBuf| {
            // Removed in the working tree, but not in the index yet.
            let bytes = std::fs::read(root.join(&path)).ok()?;
            Some(File { path: path.to_str()?.to_owned(), bytes })
        };
        Self { files: paths.into_iter().filter_map(read).collect() }
    }

    /// A sample for the rules' own tests.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File { path: (*path).to_owned(), bytes: text.as_bytes().to_vec() };
        Self { files: files.iter().map(file).collect() }
    }
}

/// `None` where git is missing, or this is no work tree of its own (a source archive).
fn tracked(root: &Path) -> Option<Vec<PathBuf>> {
    if !root.join(".git").exists() {
        return None;
    }
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(listed.stdout).ok()?;
    Some(text.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from).collect())
}

fn walk(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap();
            if [Path::new("target"), Path::new(".git")].contains(&relative) {
                continue;
            }
            if path.is_dir() { folders.push(path) } else { found.push(relative.to_owned()) }
        }
    }
    found
}

#[test]
fn without_git_everything_but_the_build_is_found() {
    let root = tempfile::tempdir().unwrap();
    for path in ["src/a/b.rs", "target/debug/junk", "c.md"] {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    let mut found: Vec<String> = Repo::at(root.path()).files.into_iter().map(|file| file.path).collect();
    found.sort();
    assert_eq!(found, ["c.md", "src/a/b.rs"]);
}
