//! The arguments of `facewire dead`: which dead letters, and what to do with them.

use clap::{Args, Subcommand};
use facewire_domain::{Reason, Stage};
use time::OffsetDateTime;

#[derive(Debug, Args)]
pub(crate) struct Dead {
    #[command(subcommand)]
    pub(crate) command: DeadCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List the dead letters that match the filters, oldest first.
    List {
        #[command(flatten)]
        which: DeadWhich,
        /// Maximum number of dead letters.
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        /// A JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show one dead letter without its payload, which may hold a face.
    Show {
        /// Its sequence number, as listed.
        #[arg(value_name = "SEQUENCE")]
        sequence: u64,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Publish messages again to the stage that gave them up; each dead letter is then removed.
    Replay(DeadChoice),
    /// Delete dead letters permanently.
    Drop(DeadChoice),
}

/// Which dead letters; a filter that is left out matches any.
#[derive(Debug, Args)]
pub(crate) struct DeadWhich {
    /// Given up by this stage.
    #[arg(long)]
    pub(crate) stage: Option<Stage>,
    /// Given up for this reason.
    #[arg(long)]
    pub(crate) reason: Option<Reason>,
    /// Given up at or after this time: `1h` for an hour ago, or an RFC 3339 time.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) since: Option<OffsetDateTime>,
    /// Given up before this time.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) until: Option<OffsetDateTime>,
}

#[derive(Debug, Args)]
pub(crate) struct DeadChoice {
    /// Their sequence numbers, as listed.
    #[arg(
        value_name = "SEQUENCE",
        required_unless_present = "all",
        conflicts_with_all = ["all", "stage", "reason", "since", "until"]
    )]
    pub(crate) sequences: Vec<u64>,
    /// All that match the filters.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) which: DeadWhich,
    /// Do not ask for confirmation.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// So long ago, or at that time.
pub(super) fn moment(text: &str) -> Result<OffsetDateTime, String> {
    let ago = humantime::parse_duration(text).ok().and_then(|ago| time::Duration::try_from(ago).ok());
    let at = match ago {
        Some(ago) => OffsetDateTime::now_utc().checked_sub(ago),
        None => facewire_domain::moment::parse(text),
    };
    at.ok_or_else(|| "a time ago (90s, 1h, 2days) or a time as in RFC 3339 (2026-01-31T12:00:00Z)".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn dead(line: &str) -> Result<DeadCommand, clap::Error> {
        let words = ["facewire", "dead"].into_iter().chain(line.split_ascii_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Dead(dead) => Ok(dead.command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn times_are_so_long_ago_or_as_said() {
        let since = |line: &str| match dead(line).unwrap() {
            DeadCommand::List { which, .. } => which.since.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(since("list --since 2026-01-31T12:00:00Z").unix_timestamp(), 1_769_860_800);
        let (before, hour) = (OffsetDateTime::now_utc(), time::Duration::HOUR);
        let at = since("list --since 1h");
        assert!(at >= before - hour && at <= OffsetDateTime::now_utc() - hour, "{at}");
        assert!(dead("list --since yesterday").is_err());
    }

    #[test]
    fn dead_letters_are_named_or_filtered_never_both_and_never_neither() {
        for well in ["replay 1 2", "drop --all --stage embed --reason timeout --yes", "replay --all --until 1h"] {
            assert!(dead(well).is_ok(), "{well}");
        }
        for wrong in
            ["replay", "drop --stage embed", "drop 1 --all", "replay 1 --reason timeout", "drop --all --stage x"]
        {
            assert!(dead(wrong).is_err(), "{wrong}");
        }
    }
}
