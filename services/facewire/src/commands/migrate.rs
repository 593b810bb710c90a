//! `facewire migrate`: makes and updates what Facewire needs on its servers, or shows what it would do.

use facewire_composition::{Change, Config, Parts};
use serde::Serialize;

use crate::cli::Migrate;
use crate::output::{self, Exit};

#[derive(Debug, Serialize)]
struct Report {
    /// Whether the changes were only looked at.
    dry_run: bool,
    changes: Vec<Change>,
}

pub(crate) async fn run(config: Config, args: &Migrate) -> anyhow::Result<Exit> {
    let parts = Parts::stores(&config).await?;
    let mut changes = facewire_composition::plan(&config, &parts).await?;
    if !args.dry_run {
        facewire_composition::migrate(&config, &parts).await?;
    }
    if args.roles {
        changes.extend(facewire_composition::plan_roles(&parts, &args.role_prefix).await?);
        if !args.dry_run {
            facewire_composition::migrate_roles(&parts, &args.role_prefix).await?;
        }
    }
    let report = Report { dry_run: args.dry_run, changes };
    if args.json {
        output::json(&report)?;
    } else {
        show(&report);
    }
    Ok(if args.dry_run && !report.changes.is_empty() { Exit::ProblemsFound } else { Exit::Success })
}

fn show(report: &Report) {
    if report.changes.is_empty() {
        output::line("nothing to do: all is up to date");
        return;
    }
    let mut table = output::table(&["server", if report.dry_run { "would" } else { "done" }]);
    for Change { store, change } in &report.changes {
        table.add_row([*store, change.as_str()]);
    }
    output::line(table);
}
