//! The arguments of `facewire jobs`, and of whether a command waits for the job that it starts.

use clap::{Args, Subcommand, value_parser};
use facewire_domain::{CollectionId, JobId, JobKind, JobState};

#[derive(Debug, Args)]
pub(crate) struct Jobs {
    #[command(subcommand)]
    pub(crate) command: JobsCommand,
    /// One JSON object; of `watch`, one a line for each change.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// List jobs, newest first.
    List(ListJobs),
    /// Show one job: its parameters, its progress, and its result or error.
    Show {
        /// The job's id, as listed.
        #[arg(value_name = "JOB_ID")]
        job: JobId,
    },
    /// Stop a job: a queued one at once, a running one before it writes its result. An erasure that has begun goes on.
    Cancel {
        /// The job's id, as listed.
        #[arg(value_name = "JOB_ID")]
        job: JobId,
    },
    /// Queue a failed or cancelled job again.
    Retry {
        /// The job's id, as listed.
        #[arg(value_name = "JOB_ID")]
        job: JobId,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Follow a job until it ends. Exit status 3 if it failed or was cancelled; 1 if the watching ended first.
    Watch {
        /// The job's id, as listed.
        #[arg(value_name = "JOB_ID")]
        job: JobId,
    },
}

/// Which jobs; a filter that is left out matches any.
#[derive(Debug, Args)]
pub(crate) struct ListJobs {
    /// Only of this collection. Repeatable.
    #[arg(long = "collection", value_name = "NAME")]
    pub(crate) collections: Vec<CollectionId>,
    /// Only of this kind: cluster, assign, prototypes, train, erase or export.
    #[arg(long)]
    pub(crate) kind: Option<JobKind>,
    /// Only in this state: queued, running, succeeded, failed or cancelled.
    #[arg(long)]
    pub(crate) state: Option<JobState>,
    /// Maximum number of jobs.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
}

/// Whether a command waits for the end of its job.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Waiting {
    /// Wait until the job ends: the default on a terminal. Ctrl-C ends the waiting, not the job.
    #[arg(long, conflicts_with = "no_wait")]
    pub(crate) wait: bool,
    /// Return as soon as the job is queued: the default without a terminal.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

impl Waiting {
    /// Whether to wait, where standard error is a terminal or is none.
    pub(crate) fn wanted(self, terminal: bool) -> bool {
        self.wait || (terminal && !self.no_wait)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn jobs(line: &str) -> Result<Jobs, clap::Error> {
        let words = ["facewire", "jobs"].into_iter().chain(line.split_ascii_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Jobs(jobs) => Ok(jobs),
            other => panic!("{other:?}"),
        }
    }

    const ID: &str = "77321bbd-a373-46f1-afa2-bfca622d7889";

    #[test]
    fn jobs_are_filtered_by_words_that_exist() {
        let line = "list --collection office --collection lab --kind cluster --state failed --json";
        let Jobs { command: JobsCommand::List(list), json: true } = jobs(line).unwrap() else { panic!() };
        assert_eq!((list.collections.len(), list.limit), (2, 20));
        assert_eq!((list.kind, list.state), (Some(JobKind::Cluster), Some(JobState::Failed)));
        let refused = jobs("list --state done").unwrap_err().to_string();
        assert!(refused.contains("succeeded") && refused.contains("cancelled"), "{refused}");
        assert!(jobs("list --kind import").unwrap_err().to_string().contains("prototypes"));
        for wrong in ["", "show", "show 7", "list --limit 0", "list --collection a.b", "cancel --all"] {
            assert!(jobs(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn waiting_is_for_terminals_unless_said() {
        let waiting = |flags: &str| match jobs(&format!("retry {ID} {flags}")).unwrap().command {
            JobsCommand::Retry { job, waiting } if job.to_string() == ID => waiting,
            other => panic!("{other:?}"),
        };
        let [unsaid, wait, no_wait] = ["", "--wait", "--no-wait"].map(waiting);
        assert_eq!([unsaid, wait, no_wait].map(|waiting| waiting.wanted(true)), [true, true, false]);
        assert_eq!([unsaid, wait, no_wait].map(|waiting| waiting.wanted(false)), [false, true, false]);
        assert!(jobs(&format!("retry {ID} --wait --no-wait")).is_err());
    }
}
