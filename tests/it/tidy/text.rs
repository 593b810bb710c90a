//! What lies in the files: how they open, how long they are, and what must never be committed. Strings that are looked
//! for are put together, so that this file does not hold them.

use super::repo::{File, Repo};
use super::{Faults, breaks, holds, passes};

/// Lines of a source file at most; from some 400 on it wants to be split by idea.
const MAX_LINES: usize = 500;

/// Pictures, models, libraries, archives: no biometric data, no weights, nothing that was downloaded.
const BINARIES: [&str; 21] = [
    "jpg",
    "jpeg",
    "png",
    "webp",
    "gif",
    "bmp",
    "tif",
    "tiff",
    "onnx",
    "pb",
    "pt",
    "safetensors",
    "npy",
    "so",
    "a",
    "zip",
    "gz",
    "tgz",
    "whl",
    "tar",
    "bin",
];

/// How such files begin, whatever they are called.
const SIGNATURES: [(&str, &[u8]); 7] = [
    ("a JPEG", &[0xFF, 0xD8, 0xFF]),
    ("a PNG", &[0x89, b'P', b'N', b'G']),
    ("a WebP", b"RIFF"),
    ("a GIF", b"GIF8"),
    ("an ELF file", &[0x7F, b'E', b'L', b'F']),
    ("a ZIP archive", &[b'P', b'K', 3, 4]),
    ("a gzip archive", &[0x1F, 0x8B, 8]),
];

/// Package managers' own clients know where their registries are.
const REGISTRIES: [&str; 7] = [
    concat!("pythonhosted", ".org"),
    concat!("pypi", ".org"),
    concat!("registry.npmjs", ".org"),
    concat!("registry.yarnpkg", ".com"),
    concat!("static.", "crates.io"),
    concat!("index.", "crates.io"),
    concat!("proxy.golang", ".org"),
];

/// Folders of one machine.
const MACHINE: [&str; 3] = [concat!("/", "work/"), concat!("/", "root/"), concat!("/", "home/")];

fn each(repo: &Repo, fault: impl Fn(&File) -> Option<String>) -> Faults {
    repo.files.iter().filter_map(|file| Some(format!("{}: {}", file.path, fault(file)?))).collect()
}

fn each_line(repo: &Repo, fault: impl Fn(&File, &str) -> Option<String>) -> Faults {
    let lines = repo.files.iter().flat_map(|file| {
        file.text().unwrap_or_default().lines().zip(1..).map(move |(line, number)| (file, line, number))
    });
    lines.filter_map(|(f, line, number)| Some(format!("{}:{number}: {}", f.path, fault(f, line)?))).collect()
}

fn opening(repo: &Repo) -> Faults {
    each(repo, |file| {
        let opens = file.text().unwrap_or_default().starts_with("//! ");
        (file.is_rust() && !opens).then(|| "does not open with `//!` and what it is for".to_owned())
    })
}

fn length(repo: &Repo) -> Faults {
    each(repo, |file| {
        let lines = file.text().unwrap_or_default().lines().count();
        (file.is_rust() && lines > MAX_LINES).then(|| format!("has {lines} lines, more than {MAX_LINES}"))
    })
}

fn binaries(repo: &Repo) -> Faults {
    each(repo, |file| {
        let extension = file.path.rsplit('/').next()?.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase());
        if let Some(extension) = extension.filter(|e| BINARIES.contains(&e.as_str())) {
            return Some(format!("a .{extension} file is not committed"));
        }
        let (name, _) = SIGNATURES.iter().find(|(_, start)| file.bytes.starts_with(start))?;
        Some(format!("is {name} by its content"))
    })
}

/// A machine's folder, where it is a path's beginning (and not `$DIR/…` or a part of a URL).
fn machine_path(line: &str) -> Option<&'static str> {
    let begins = |at: usize| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        before.is_none_or(|c| !c.is_alphanumeric() && !"._-~*}/)".contains(c))
    };
    MACHINE.into_iter().find(|folder| line.match_indices(folder).any(|(at, _)| begins(at)))
}

fn machine_paths(repo: &Repo) -> Faults {
    each_line(repo, |_, line| Some(format!("a path of one machine, {}", machine_path(line)?)))
}

fn registries(repo: &Repo) -> Faults {
    each_line(repo, |_, line| {
        REGISTRIES.iter().find(|host| line.contains(**host)).map(|host| format!("names the registry host {host}"))
    })
}

/// Always, or where something holds.
fn is_ignored(line: &str) -> bool {
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    let sometimes = line.contains(concat!("cfg", "_attr(")) && words.any(|word| word == "ignore");
    sometimes || line.contains(concat!("#[", "ignore"))
}

fn skipped_tests(repo: &Repo) -> Faults {
    each_line(repo, |file, line| {
        (file.is_rust() && is_ignored(line)).then(|| "a test that does not run is no test".to_owned())
    })
}

/// A test binary links everything anew, so a crate has one.
fn test_binaries(repo: &Repo) -> Faults {
    each(repo, |file| {
        let own = matches!(file.path.split('/').collect::<Vec<_>>().as_slice(), [_, _, "tests", name] if name.ends_with(".rs"));
        own.then(|| "a test binary of its own; make it a module of tests/it".to_owned())
    })
}

fn proto_only(repo: &Repo) -> Faults {
    each(repo, |file| {
        let stray = file.path.starts_with("proto/") && !file.path.ends_with(".proto");
        stray.then(|| "proto/ holds .proto files only".to_owned())
    })
}

#[test]
fn every_file_says_what_it_is_for() {
    holds(opening);
    passes(opening, &[("shared/a/src/lib.rs", "//! The wire.\n"), ("README.md", "# Facewire")]);
    breaks(opening, &[("shared/a/build.rs", "fn main() {}\n")], "build.rs");
    breaks(opening, &[("shared/a/src/lib.rs", "use std::fmt;\n//! Late.\n")], "lib.rs");
}

#[test]
fn no_file_is_too_long_to_read() {
    holds(length);
    passes(length, &[("a.rs", &"\n".repeat(MAX_LINES)), ("Cargo.lock", &"\n".repeat(MAX_LINES + 1))]);
    breaks(length, &[("a.rs", &"\n".repeat(MAX_LINES + 1))], "501 lines");
}

#[test]
fn no_face_no_weights_no_archive_is_committed() {
    holds(binaries);
    passes(binaries, &[("shared/vision/src/png.rs", "//! x"), ("notes", "a"), (".gitignore", "/target")]);
    breaks(binaries, &[("docs/Face.JPG", "")], ".jpg");
    breaks(binaries, &[("models/fr.onnx", "")], ".onnx");
    breaks(binaries, &[("docs/face", "GIF89a")], "a GIF");
    breaks(binaries, &[("docs/face.txt", "PK\u{3}\u{4}rest")], "a ZIP");
}

#[test]
fn no_path_of_one_machine() {
    holds(machine_paths);
    let [work, root, home] = MACHINE;
    breaks(machine_paths, &[("a.sh", &format!("x\ncd {work}main"))], "a.sh:2");
    breaks(machine_paths, &[("a.rs", &format!("\"{root}.cache\""))], "machine");
    breaks(machine_paths, &[("a.md", &format!("`{home}anna/faces`"))], "machine");
    let url = format!("https://example.org{home}page, $DIR{work}x, ..{root}y");
    passes(machine_paths, &[("a.md", &url)]);
}

#[test]
fn no_registry_is_named_by_its_host() {
    holds(registries);
    for host in REGISTRIES {
        breaks(registries, &[("a.rs", &format!("\"https://{host}/simple\""))], host);
    }
    passes(registries, &[("Cargo.lock", "source = \"registry+https://github.com/rust-lang/crates.io-index\"")]);
}

#[test]
fn no_test_is_skipped() {
    holds(skipped_tests);
    breaks(skipped_tests, &[("a.rs", concat!("#[test]\n#[", "ignore = \"slow\"]"))], "a.rs:2");
    breaks(skipped_tests, &[("a.rs", concat!("#[test]\n#[cfg", "_attr(debug_assertions, ignore)]"))], "a.rs:2");
    passes(skipped_tests, &[("a.md", concat!("#[", "ignore]"))]);
    passes(skipped_tests, &[("a.rs", concat!("#[cfg", "_attr(test, derive(Clone))]"))]);
}

#[test]
fn a_crate_has_one_test_binary() {
    holds(test_binaries);
    breaks(test_binaries, &[("shared/bus/tests/streams.rs", "//! x")], "binary of its own");
    passes(test_binaries, &[("shared/bus/tests/it/main.rs", "//! x"), ("shared/bus/src/sink/tests/mod.rs", "//! x")]);
}

#[test]
fn proto_holds_messages_only() {
    holds(proto_only);
    breaks(proto_only, &[("proto/build.rs", "//! x")], "proto/build.rs");
    passes(proto_only, &[("proto/facewire/v1/facewire.proto", "")]);
}
