//! Bars on a terminal, plain lines anywhere else; always on standard error. What is being waited for is the caller's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use facewire_artifacts::progress::{Event, Reporter};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// Shows what the local stack fetches and starts.
pub(crate) fn fetching(terminal: bool) -> Reporter {
    if terminal { bars() } else { Arc::new(|event| plain(&event)) }
}

/// A bar for `len` things of a kind; hidden where standard error is no terminal.
pub(crate) fn bar(len: u64, label: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::stderr());
    styled(&bar, "{prefix} {wide_bar} {human_pos}/{human_len}  {per_sec}  {eta} left");
    bar.set_prefix(label.to_owned());
    bar
}

/// Says something above a bar, whether the bar is seen or not.
pub(crate) fn say_above(bar: &ProgressBar, text: impl std::fmt::Display) {
    bar.suspend(|| output::say(text));
}

/// A template that does not parse leaves the library's own style.
fn styled(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

fn plain(event: &Event) {
    match event {
        Event::Fetching { artifact, version, bytes } => {
            output::say(format_args!(
                "fetching {artifact} {version} ({} MB), kept for the next time",
                megabytes(*bytes)
            ));
        }
        Event::Ready { artifact } => output::say(format_args!("{artifact} is there, its checksums hold")),
        Event::Starting { server } => output::say(format_args!("starting {server}")),
        Event::Listening { server, port } => output::say(format_args!("{server} answers on port {port}")),
        _ => {}
    }
}

fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

fn bars() -> Reporter {
    let all = MultiProgress::new();
    let by_name: Mutex<HashMap<&'static str, ProgressBar>> = Mutex::default();
    Arc::new(move |event| {
        let mut by_name = by_name.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Fetching { artifact, version, bytes } => {
                let bar = all.add(ProgressBar::new(bytes));
                styled(&bar, "fetching {prefix:24} {wide_bar} {bytes}/{total_bytes}");
                bar.set_prefix(format!("{artifact} {version}"));
                by_name.insert(artifact, bar);
            }
            Event::Fetched { artifact, done, .. } => {
                if let Some(bar) = by_name.get(artifact) {
                    bar.set_position(done);
                }
            }
            Event::Starting { server } => {
                let bar = all.add(ProgressBar::new_spinner());
                bar.set_message(format!("starting {server}"));
                bar.enable_steady_tick(Duration::from_millis(100));
                by_name.insert(server, bar);
            }
            Event::Ready { artifact: name } | Event::Listening { server: name, .. } => {
                if let Some(bar) = by_name.remove(name) {
                    bar.finish_and_clear();
                    all.remove(&bar);
                }
            }
            _ => {}
        }
    })
}
