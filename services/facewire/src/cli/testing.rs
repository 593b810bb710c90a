//! For the tests of arguments: lines as a person types them. Nothing that a command runs.

use clap::Parser;

use super::{Cli, Command, FacesCommand};

/// What `facewire faces LINE` is read as.
pub(super) fn faces(line: &str) -> Result<FacesCommand, clap::Error> {
    let words = ["facewire", "faces"].into_iter().chain(line.split_ascii_whitespace());
    match Cli::try_parse_from(words)?.command {
        Command::Faces(faces) => Ok(faces.command),
        other => panic!("{other:?}"),
    }
}
