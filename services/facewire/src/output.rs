//! What a person or a machine reads: standard output for results, standard error for everything else, and what the exit
//! statuses mean.

use std::io::Write;
use std::process::ExitCode;

/// How a command ended, as a process status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: the work is done and nothing is wrong.
    Success,
    /// 1: the command could not do its work. Errors end so too.
    Failed,
    /// 3: the work was done and something is wrong with what it found (a broken invariant, a missing part).
    ProblemsFound,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Success => ExitCode::SUCCESS,
            Exit::Failed => ExitCode::from(1),
            Exit::ProblemsFound => ExitCode::from(3),
        }
    }
}

/// Says an error with its causes.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    say(format_args!("error: {error:#}"));
    Exit::Failed.into()
}

/// A line to standard output. A reader that went away (`| head`) is no error.
pub(crate) fn line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A line to standard output; whether anybody still reads. For commands that would go on for ever.
pub(crate) fn line_read(text: impl std::fmt::Display) -> bool {
    writeln!(std::io::stdout().lock(), "{text}").is_ok()
}

/// A line to standard error: progress and hints, which `--json` readers do not see.
pub(crate) fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// One JSON object to standard output.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A table with borders; colours and width follow the terminal.
pub(crate) fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    table
}
