//! `facewire migrate`: makes and updates what Facewire needs on its servers, or shows what it would do.

use facewire_composition::{Change, Config, Parts};
use facewire_store_pg::RoleChange;
use serde::Serialize;

use crate::cli::Migrate;
use crate::output::{self, Exit};

#[derive(Debug, Serialize)]
struct Report {
    /// Whether the changes were only looked at.
    dry_run: bool,
    changes: Vec<Change>,
    /// Rights that this release does not list and that stay until `--revoke`: no change that is due.
    left: Vec<Change>,
}

pub(crate) async fn run(config: Config, args: &Migrate) -> anyhow::Result<Exit> {
    let parts = Parts::stores(&config).await?;
    let mut changes = facewire_composition::plan(&config, &parts).await?;
    if !args.dry_run {
        facewire_composition::migrate(&config, &parts).await?;
    }
    let mut left = Vec::new();
    if args.roles {
        let plan = facewire_composition::plan_roles(&parts, &args.role_prefix).await?;
        let (later, now): (Vec<_>, Vec<_>) = plan.into_iter().partition(|change| change.revokes() && !args.revoke);
        changes.extend(now.into_iter().map(of_role));
        left.extend(later.into_iter().map(of_role));
        match (args.dry_run, args.revoke) {
            (true, _) => {}
            (false, true) => facewire_composition::equalise_roles(&parts, &args.role_prefix).await?,
            (false, false) => facewire_composition::migrate_roles(&parts, &args.role_prefix).await?,
        }
    }
    let report = Report { dry_run: args.dry_run, changes, left };
    if args.json {
        output::json(&report)?;
    } else {
        show(&report);
    }
    Ok(if args.dry_run && !report.changes.is_empty() { Exit::ProblemsFound } else { Exit::Success })
}

fn of_role(RoleChange { role, change, .. }: RoleChange) -> Change {
    Change { store: "postgres", change: format!("{role}: {change}") }
}

fn show(report: &Report) {
    if report.changes.is_empty() {
        output::line("nothing to do: all is up to date");
    } else {
        table(if report.dry_run { "would" } else { "done" }, &report.changes);
    }
    if !report.left.is_empty() {
        table("left until --revoke", &report.left);
    }
}

fn table(what: &str, changes: &[Change]) {
    let mut table = output::table(&["server", what]);
    for Change { store, change } in changes {
        table.add_row([*store, change.as_str()]);
    }
    output::line(table);
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    #[test]
    fn rights_are_taken_only_together_with_the_roles() {
        let read = |line: &str| Cli::try_parse_from(["facewire", "migrate"].into_iter().chain(line.split(' ')));
        match read("--roles --revoke").unwrap().command {
            Command::Migrate(args) => assert!(args.roles && args.revoke && !args.dry_run),
            other => panic!("{other:?}"),
        }
        assert!(read("--revoke").is_err());
    }
}
