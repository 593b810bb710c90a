//! `facewire faces find-orphans` and `facewire rebuild`: the reconciler's work on demand, with what it checked, found and
//! repaired. What a difference is and how it is repaired stands in the reconciler.

use std::time::Duration;

use anyhow::anyhow;
use comfy_table::CellAlignment;
use facewire_composition::Config;
use facewire_reconciler::{Kind, PassOptions, PassReport, RebuildOptions, ReconcileError, Reconciler};
use indicatif::HumanCount;
use serde::Serialize;

use crate::cli::{FindOrphans, Rebuild};
use crate::commands::{connect, progress};
use crate::output::{self, Exit};

#[derive(Debug, Serialize)]
struct Found {
    #[serde(flatten)]
    report: PassReport,
    fix: bool,
    seconds: f64,
}

pub(super) async fn find_orphans(mut config: Config, args: &FindOrphans) -> anyhow::Result<Exit> {
    if let Some(grace) = args.grace {
        config.reconciler.grace = grace;
    }
    if let Some(rate) = args.rate {
        config.reconciler.rate = rate;
    }
    let reconciler = reconciler(&config).await?;
    let bar = progress::bar(reconciler.gallery.store.count_faces().await?, "checked");
    let options =
        PassOptions { fix: args.fix, limit: args.limit, samples: 5, allow_mass_removal: args.allow_mass_removal };
    let started = std::time::Instant::now();
    let pass = reconciler.full(options, args.patience, &|checked| bar.set_position(checked)).await;
    bar.finish_and_clear();
    let found = Found { report: pass.map_err(busy)?, fix: args.fix, seconds: started.elapsed().as_secs_f64() };
    if args.json {
        output::json(&found)?;
    } else {
        show(&found);
    }
    // Whoever only looks, from a script perhaps, learns by the status whether something is left to fix.
    let left = found.report.total_found() - found.report.total_fixed();
    Ok(if left == 0 && !found.report.cut { Exit::Success } else { Exit::ProblemsFound })
}

fn show(found: &Found) {
    let report = &found.report;
    let (rows, points) = (HumanCount(report.rows), HumanCount(report.points));
    output::line(format_args!(
        "checked {rows} faces in Postgres and {points} points in Qdrant, {:.1} s",
        found.seconds
    ));
    if report.total_found() == 0 {
        output::line("no difference");
        return;
    }
    let mut table = output::table(&["difference", "found", "repaired", "for example"]);
    for kind in Kind::ALL {
        let count = |counts: &std::collections::BTreeMap<Kind, u64>| counts.get(&kind).copied().unwrap_or(0);
        if count(&report.found) > 0 {
            let samples = report.samples.get(&kind).map(|ids| ids.join("\n")).unwrap_or_default();
            table.add_row([
                label(kind).to_owned(),
                HumanCount(count(&report.found)).to_string(),
                HumanCount(count(&report.fixed)).to_string(),
                samples,
            ]);
        }
    }
    for column in table.column_iter_mut().skip(1).take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    output::line(table);
    if report.held_back > 0 {
        output::say(format_args!(
            "{} points were kept although they have no face of this model: that many look like a wrong Postgres or a wrong model \
             pack. If they have to go, say --allow-mass-removal",
            HumanCount(report.held_back)
        ));
    }
    if report.cut {
        output::say("stopped at --limit: what comes after was not compared");
    }
    if !found.fix {
        output::say("--fix repairs these");
    }
}

fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::MissingPoint => "face without a point",
        Kind::OrphanPoint => "point without a face",
        Kind::Tombstoned => "deleted face still there",
        Kind::PayloadDrift => "payload differs",
        Kind::OtherModel => "another model's embedding",
    }
}

#[derive(Debug, Serialize)]
struct Done {
    #[serde(flatten)]
    rebuilt: facewire_reconciler::Rebuilt,
    seconds: f64,
}

pub(crate) async fn rebuild(config: Config, args: &Rebuild) -> anyhow::Result<Exit> {
    let reconciler = reconciler(&config).await?;
    let bar = progress::bar(reconciler.gallery.store.count_faces().await?, "copied");
    let started = std::time::Instant::now();
    let options = RebuildOptions { allow_mass_removal: args.allow_mass_removal };
    let rebuilt = reconciler.rebuild(options, args.patience, &|copied| bar.set_position(copied)).await;
    bar.finish_and_clear();
    let done = Done { rebuilt: rebuilt.map_err(busy)?, seconds: started.elapsed().as_secs_f64() };
    if args.json {
        output::json(&done)?;
    } else {
        let copied = HumanCount(done.rebuilt.copied);
        let after = done.rebuilt.copied_after + done.rebuilt.after.total_fixed();
        output::line(format_args!(
            "{copied} faces copied into {}, which now serves; {after} that changed meanwhile were brought along; {:.1} s",
            done.rebuilt.collection, done.seconds
        ));
    }
    Ok(Exit::Success)
}

async fn reconciler(config: &Config) -> anyhow::Result<Reconciler> {
    facewire_composition::reconciler(config, &connect::stores(config, "faces").await?)
}

fn busy(error: ReconcileError) -> anyhow::Error {
    match error {
        ReconcileError::Busy => anyhow!("{error}, or give it more time with --patience {:?}", Duration::from_secs(300)),
        error => error.into(),
    }
}
