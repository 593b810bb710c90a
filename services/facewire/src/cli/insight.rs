//! The arguments of the commands that say why: `why`, `cameras`, `failures`.

use clap::Args;
use facewire_domain::{CameraId, CollectionId, Reason, Stage};
use facewire_store_pg::Window;
use time::OffsetDateTime;

use super::dead::moment;
use crate::limits::{self, LimitChange};

#[derive(Debug, Args)]
pub(crate) struct Why {
    /// The crop's id, as in its result.
    #[arg(value_name = "CROP_ID")]
    pub(crate) crop: String,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which endings: what is left out means any.
#[derive(Debug, Args)]
pub(crate) struct Ended {
    /// Only this collection.
    #[arg(long)]
    pub(crate) collection: Option<CollectionId>,
    /// Only this camera.
    #[arg(long, value_name = "CAM")]
    pub(crate) camera: Option<CameraId>,
    /// Ended then or later: `24h` for a day ago, or a time as in RFC 3339.
    #[arg(long, value_name = "WHEN", default_value = "24h", value_parser = moment)]
    pub(crate) since: OffsetDateTime,
}

impl Ended {
    /// As the store asks for them.
    pub(crate) fn window(&self) -> Window {
        let (collection, camera) = (self.collection.clone(), self.camera.clone());
        Window { collection, camera, since: Some(self.since), until: None }
    }
}

/// Cameras, worst first. "usable" is the share of faces that the gate did not reject, of those that did not fail: failures
/// are Facewire's own fault, and no camera's; nor is an identity conflict, or a message that is not valid. "success" is the
/// share of endings without a reason (matched, enrolled, already enrolled, observed) of all endings; a stranger is no
/// success, and no fault either. "expected" is the expected recognisability: the mean score of the measured faces, the
/// probability that a face is recognised if its person is enrolled.
#[derive(Debug, Args)]
pub(crate) struct Cameras {
    #[command(flatten)]
    pub(crate) ended: Ended,
    /// The spread of every signal against its limit, and what other limits would have accepted. With --camera it is always
    /// shown.
    #[arg(long)]
    pub(crate) signals: bool,
    // Its help lists the limits that there are.
    #[arg(long = "limit", value_name = "NAME=VALUE", help = limits::help())]
    pub(crate) limits: Vec<LimitChange>,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Endings that are no success, newest first: no match, rejected, failed.
#[derive(Debug, Args)]
pub(crate) struct Failures {
    #[command(flatten)]
    pub(crate) ended: Ended,
    /// Only for this reason.
    #[arg(long)]
    pub(crate) reason: Option<Reason>,
    /// Only ended by this stage.
    #[arg(long)]
    pub(crate) stage: Option<Stage>,
    /// Rows at most; the counts below them are of all.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) limit: u32,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn command(line: &str) -> Result<Command, clap::Error> {
        let words = std::iter::once("facewire").chain(line.split_ascii_whitespace());
        Cli::try_parse_from(words).map(|cli| cli.command)
    }

    fn refused(line: &str) -> String {
        command(line).unwrap_err().to_string()
    }

    #[test]
    fn cameras_are_of_the_last_day_unless_said() {
        let Command::Cameras(args) = command("cameras").unwrap() else { panic!("not cameras") };
        let day_ago = OffsetDateTime::now_utc() - time::Duration::DAY;
        assert!((args.ended.since - day_ago).abs() < time::Duration::MINUTE);
        assert!(args.limits.is_empty() && !args.signals);
        let line = "cameras --since 2026-01-31T12:00:00Z --camera door-1 --limit blur=60 --limit min_brightness=0.1";
        let Command::Cameras(args) = command(line).unwrap() else { panic!("not cameras") };
        assert_eq!(args.ended.since.unix_timestamp(), 1_769_860_800);
        let changes: Vec<String> = args.limits.iter().map(ToString::to_string).collect();
        assert_eq!(changes, ["blur=60", "too_dark=0.1"]);
    }

    #[test]
    fn what_is_unknown_is_refused_with_what_is_known() {
        assert!(refused("failures --reason blurry").contains("low_quality"));
        assert!(refused("failures --stage gate").contains("quality"));
        assert!(refused("cameras --limit sharpness=1").contains("landmarks_score"));
        assert!(refused("cameras --since lately").contains("RFC 3339"));
        for wrong in ["cameras --camera ../x", "failures --collection a.b", "failures --limit -1", "why"] {
            assert!(command(wrong).is_err(), "{wrong}");
        }
    }
}
