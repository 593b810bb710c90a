//! A crate's manifest, as far as the rules look at it.

use toml::{Table, Value};

use super::repo::{File, Repo};

/// Which table a dependency stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Build,
    Dev,
}

/// One line of a dependency table.
#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    /// The package, whatever it is called here.
    pub(crate) package: String,
    pub(crate) kind: Kind,
    /// `x.workspace = true`.
    pub(crate) from_workspace: bool,
}

/// A member crate.
#[derive(Debug, Clone)]
pub(crate) struct Crate {
    /// `services/match`.
    pub(crate) room: String,
    /// `facewire-match`.
    pub(crate) package: String,
    pub(crate) dependencies: Vec<Dependency>,
    /// `[lints] workspace = true`.
    pub(crate) workspace_lints: bool,
}

/// Every crate of the repository; a manifest that cannot be read is a panic with its path.
pub(crate) fn crates(repo: &Repo) -> Vec<Crate> {
    let shared = workspace_dependencies(repo);
    let manifests = repo.files.iter().filter_map(|file| Some((file.path.strip_suffix("/Cargo.toml")?, file)));
    manifests.map(|(room, file)| read(room, &table(file), &shared)).collect()
}

fn table(file: &File) -> Table {
    let text = file.text().unwrap_or_else(|| panic!("{} is no text", file.path));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.path))
}

fn workspace_dependencies(repo: &Repo) -> Table {
    let root = repo.files.iter().find(|file| file.path == "Cargo.toml").map(table).unwrap_or_default();
    at(&root, &["workspace", "dependencies"]).and_then(Value::as_table).cloned().unwrap_or_default()
}

fn at<'a>(table: &'a Table, keys: &[&str]) -> Option<&'a Value> {
    let (last, path) = keys.split_last()?;
    path.iter().try_fold(table, |table, key| table.get(*key)?.as_table())?.get(*last)
}

fn read(room: &str, manifest: &Table, shared: &Table) -> Crate {
    let targets = at(manifest, &["target"]).and_then(Value::as_table).into_iter().flat_map(Table::values);
    let scopes = targets.filter_map(Value::as_table).chain([manifest]);
    let tables = [("dependencies", Kind::Normal), ("build-dependencies", Kind::Build), ("dev-dependencies", Kind::Dev)];
    let dependencies = scopes
        .flat_map(|scope| tables.iter().filter_map(|(name, kind)| Some((scope.get(*name)?.as_table()?, *kind))))
        .flat_map(|(table, kind)| table.iter().map(move |(name, value)| dependency(name, value, kind, shared)))
        .collect();
    let package = at(manifest, &["package", "name"]).and_then(Value::as_str).unwrap_or_default();
    Crate {
        room: room.to_owned(),
        package: package.to_owned(),
        dependencies,
        workspace_lints: at(manifest, &["lints", "workspace"]) == Some(&Value::Boolean(true)),
    }
}

fn dependency(name: &str, value: &Value, kind: Kind, shared: &Table) -> Dependency {
    let renamed = |value: &Value| Some(value.as_table()?.get("package")?.as_str()?.to_owned());
    let package = renamed(value).or_else(|| renamed(shared.get(name)?)).unwrap_or_else(|| name.to_owned());
    let from_workspace = value.get("workspace").and_then(Value::as_bool) == Some(true);
    Dependency { package, kind, from_workspace }
}
