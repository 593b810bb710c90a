//! The arguments of `facewire faces use-head`.

use std::time::Duration;

use clap::{ArgGroup, Args, value_parser};
use uuid::Uuid;

use super::duration;

/// Faces projected at a time.
const BATCH: u32 = 256;
/// For a reconciler that is at work.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["head", "revert"]))]
pub(crate) struct UseHead {
    /// An ONNX file, or the id of a head as `facewire faces heads` lists it.
    #[arg(value_name = "FILE|ID")]
    pub(crate) head: Option<String>,
    /// Back to the embeddings of the pack itself, which were kept.
    #[arg(long)]
    pub(crate) revert: bool,
    /// Project only, and switch nothing: `facewire calibrate --head FILE --corrections` measures what was projected.
    #[arg(long, conflicts_with = "revert")]
    pub(crate) project_only: bool,
    /// Use a head whose verdict did not accept it.
    #[arg(long, conflicts_with = "revert")]
    pub(crate) force: bool,
    /// Switch although of some faces no embedding of the pack was kept: they leave the index until they are enrolled anew.
    #[arg(long)]
    pub(crate) leave_behind: bool,
    /// Faces projected at a time.
    #[arg(long, value_name = "N", default_value_t = BATCH, value_parser = value_parser!(u32).range(1..))]
    pub(crate) batch: u32,
    /// Wait this long for a reconciler that is at work.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1m")]
    pub(crate) patience: Duration,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

impl UseHead {
    /// Of a head by its id, with the defaults of what is not said.
    pub(crate) fn of(head: Uuid, force: bool) -> Self {
        Self {
            head: Some(head.to_string()),
            revert: false,
            project_only: false,
            force,
            leave_behind: false,
            batch: BATCH,
            patience: PATIENCE,
            json: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::FacesCommand;
    use crate::cli::testing::faces;

    fn parsed(line: &str) -> Result<UseHead, clap::Error> {
        match faces(&format!("use-head {line}"))? {
            FacesCommand::UseHead(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_head_is_a_file_or_an_id_and_the_way_back_has_none() {
        assert_eq!(parsed("heads/one.onnx").unwrap().head.as_deref(), Some("heads/one.onnx"));
        assert!(parsed("67e55044-10b1-426f-9247-bb680e5fe0c8 --force").unwrap().force);
        let back = parsed("--revert --json").unwrap();
        assert!(back.revert && back.head.is_none() && back.json);
        for well in ["one.onnx --project-only", "one.onnx --leave-behind --batch 1 --patience 5s"] {
            assert!(parsed(well).is_ok(), "{well}");
        }
        let usual = parsed(&Uuid::nil().to_string()).unwrap();
        assert_eq!(format!("{usual:?}"), format!("{:?}", UseHead::of(Uuid::nil(), false)));
        for wrong in ["", "one.onnx --revert", "--revert --project-only", "--revert --force", "one.onnx --batch 0"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
