//! The arguments of `facewire calibrate`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use facewire_domain::{CameraId, CollectionId};
use time::OffsetDateTime;

use super::dead::moment;
use super::evaluate::rate;

/// From folders of your own people, DIR/<person>/*, to what similarities mean on your cameras and which limits of the gate
/// earn their place, shown beside what is in force today; or to what similarities mean alone, from what people corrected.
/// Nothing changes without --apply, and --revert undoes it. What too few errors support is not proposed: thresholds at rates
/// that the sample does not reach follow the pack's table, or today's where none may be lower.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("task").required(true).args(["faces", "corrections", "list", "revert"]))]
pub(crate) struct Calibrate {
    /// People, DIR/<person>/*. Of each, the first photos by name are enrolled and the others are probes.
    #[arg(long, value_name = "DIR")]
    pub(crate) faces: Option<PathBuf>,
    /// From the faces that --collection keeps (its policy: keep_faces) and of which people said whose they are or are not; with
    /// --camera, that camera's against all. Faces that are enrolled count as confirmed. Only looked-at faces are in such a
    /// sample, so it is biased: who was missed is rarely confirmed, which makes misses look rare; refused faces are the
    /// strangers most alike, which makes false matches look frequent; and confirmed faces are better pictures than usual, which
    /// hides some false matches. So by default thresholds only rise, and the gate's limits stay as they are.
    #[arg(long, requires = "collection")]
    pub(crate) corrections: bool,
    /// Only corrections of then or later: `30days` for so long ago, or a time as in RFC 3339. Enrolled faces always count.
    #[arg(long, value_name = "WHEN", requires = "corrections", value_parser = moment)]
    pub(crate) since: Option<OffsetDateTime>,
    /// Refuse a sample of fewer confirmed faces that the camera (or any) saw: many pairs of a few faces are few observations.
    /// Default: 30.
    #[arg(long, value_name = "FACES", requires = "corrections")]
    pub(crate) least: Option<u32>,
    /// Let corrections lower thresholds too.
    #[arg(long, requires = "corrections")]
    pub(crate) may_lower: bool,
    /// Whose crops it is for, and whose faces that are compared count if a server answers; else those of the folders do.
    #[arg(long, value_name = "C")]
    pub(crate) collection: Option<CollectionId>,
    /// For this camera of the collection alone.
    #[arg(long, value_name = "CAM", requires = "collection")]
    pub(crate) camera: Option<CameraId>,
    /// People who are not enrolled: DIR/<person>/*, or files of one stranger each.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["strangers_single", "corrections", "list", "revert"])]
    pub(crate) strangers: Option<PathBuf>,
    /// As strangers, the first N people of --faces who have a single photo.
    #[arg(long, value_name = "N", conflicts_with_all = ["corrections", "list", "revert"])]
    pub(crate) strangers_single: Option<usize>,
    /// Of each person, enrol this many photos.
    #[arg(long, value_name = "K", conflicts_with = "corrections", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) enroll: u32,
    /// Share of strangers who may be taken for somebody (configuration: match.fpir, or the collection's own).
    #[arg(long, value_name = "RATE", value_parser = rate, conflicts_with_all = ["list", "revert"])]
    pub(crate) fpir: Option<f64>,
    /// Keep it in Postgres and put it in force: services follow within seconds.
    #[arg(long, requires = "collection", conflicts_with_all = ["list", "revert"])]
    pub(crate) apply: bool,
    /// The calibrations that were kept, newest first; with --collection, that one's.
    #[arg(long)]
    pub(crate) list: bool,
    /// Take a calibration back, the one in force for --collection and --camera unless named: the one before it is in force
    /// again, or else the pack's and the configured limits.
    #[arg(long, value_name = "VERSION")]
    pub(crate) revert: Option<Option<String>>,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Behind a projection head (configuration: models.head): a file, or the fingerprint of one that `facewire faces use-head` put in
    /// place. Its thresholds are needed before it serves.
    #[arg(long, value_name = "HEAD", conflicts_with = "list")]
    pub(crate) head: Option<PathBuf>,
    /// As in `evaluate`: where what was measured is kept for the next run, embeddings among it.
    #[arg(long, value_name = "DIR", conflicts_with = "corrections")]
    pub(crate) cache: Option<PathBuf>,
    /// Measure every picture anew and keep nothing.
    #[arg(long, conflicts_with_all = ["cache", "corrections"])]
    pub(crate) no_cache: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn calibrate(line: &str) -> Result<Calibrate, clap::Error> {
        let words = ["facewire", "calibrate"].into_iter().chain(line.split_ascii_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Calibrate(args) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_task_at_a_time_and_a_place_to_apply_it_to() {
        for well in [
            "--faces d",
            "--faces d --collection office --camera door --apply --fpir 0.001 --enroll 2",
            "--faces d --strangers-single 50 --json",
            "--faces d --head head.onnx --collection office --apply",
            "--corrections --head 0123456789abcdef --collection office",
            "--corrections --collection office",
            "--corrections --collection office --camera door --since 30days --least 100 --may-lower --fpir 0.001 --apply",
            "--list --collection office",
            "--revert --collection office --camera door",
        ] {
            assert!(calibrate(well).is_ok(), "{well}");
        }
        for wrong in [
            "",
            "--apply",
            "--faces d --apply",
            "--faces d --list",
            "--faces d --camera door",
            "--faces d --corrections --collection office",
            "--faces d --since 30days",
            "--faces d --least 100",
            "--faces d --may-lower",
            "--corrections",
            "--corrections --collection office --since yesterday",
            "--corrections --collection office --strangers-single 5",
            "--corrections --collection office --enroll 2",
            "--corrections --collection office --no-cache",
            "--corrections --collection office --list",
            "--list --revert",
            "--list --head head.onnx",
            "--faces d --collection an/office",
            "--faces d --fpir 1",
            "--revert v1 --fpir 0.1",
        ] {
            assert!(calibrate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(calibrate("--revert v1").unwrap().revert, Some(Some("v1".to_owned())));
        assert_eq!(calibrate("--revert --collection office").unwrap().revert, Some(None));
    }
}
