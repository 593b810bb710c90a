//! `facewire dead`: what was given up, why, and back with it. A message may hold a person's picture or embedding, so only
//! its size is ever shown.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, anyhow, bail};
use comfy_table::CellAlignment;
use facewire_bus::{BusError, DeadFilter, DeadLetterEntry, DeadLetters};
use facewire_composition::Config;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use time::OffsetDateTime;

use super::{connect, format};
use crate::cli::{DeadChoice, DeadCommand, DeadWhich};
use crate::output::{self, Exit};

/// More dead letters than this are replayed or dropped only after a question.
const MANY: usize = 10;

/// Dead letters under way at a time.
const AT_A_TIME: usize = 16;

/// Characters of an error in the list.
const SHORT: usize = 60;

pub(crate) async fn run(config: Config, command: &DeadCommand) -> anyhow::Result<Exit> {
    let bus = connect::nats(&config, "dead").await?;
    let letters = bus.dead_letters().await.context("`facewire migrate` creates the streams")?;
    match command {
        DeadCommand::List { which, limit, json } => list(&letters, filter(which), *limit, *json).await,
        DeadCommand::Show { sequence, json } => show(&letters, *sequence, *json).await,
        DeadCommand::Replay(choice) => Act::Replay.on(&letters, choice).await,
        DeadCommand::Drop(choice) => Act::Drop.on(&letters, choice).await,
    }
}

fn filter(which: &DeadWhich) -> DeadFilter {
    DeadFilter { stage: which.stage, reason: which.reason, since: which.since, until: which.until }
}

/// A dead letter as it is told: everything but the message itself.
#[derive(Debug, Serialize)]
struct Told {
    sequence: u64,
    stage: String,
    reason: String,
    #[serde(with = "time::serde::rfc3339")]
    died_at: OffsetDateTime,
    /// When the message's own stream took it.
    #[serde(with = "time::serde::rfc3339::option")]
    received_at: Option<OffsetDateTime>,
    crop_id: Option<String>,
    deliveries: u64,
    error: String,
    /// Where the message was published, and where a replay puts it.
    subject: String,
    payload_bytes: usize,
    /// Why it cannot be put back.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_replayable: Option<String>,
    headers: BTreeMap<String, String>,
}

impl Told {
    fn of(entry: DeadLetterEntry) -> Self {
        let not_replayable = entry.replayable().err().map(|error| error.to_string());
        let letter = entry.letter.unwrap_or_default();
        Self {
            sequence: entry.sequence,
            stage: entry.stage,
            reason: entry.reason,
            died_at: entry.died_at,
            received_at: entry.received_at,
            crop_id: Some(letter.crop_id).filter(|id| !id.is_empty()),
            deliveries: letter.delivered,
            error: letter.error,
            subject: letter.subject,
            payload_bytes: letter.payload.len(),
            not_replayable,
            headers: letter.headers.into_iter().collect(),
        }
    }

    fn row(&self) -> [String; 7] {
        [
            self.sequence.to_string(),
            format::moment(self.died_at),
            plain(&self.stage, SHORT),
            plain(&self.reason, SHORT),
            plain(self.crop_id.as_deref().unwrap_or_default(), SHORT),
            self.deliveries.to_string(),
            plain(&self.error, SHORT),
        ]
    }
}

/// Text of strangers for a terminal: without control characters, which could write over what stands there, and not
/// longer than `most` characters.
fn plain(text: &str, most: usize) -> String {
    let mut left = text.chars();
    let mut shown: String =
        left.by_ref().take(most).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if left.next().is_some() {
        shown.push('…');
    }
    shown
}

async fn list(letters: &DeadLetters, filter: DeadFilter, limit: usize, json: bool) -> anyhow::Result<Exit> {
    let mut reader = letters.read(filter).await?;
    let mut table = output::table(&["sequence", "died", "stage", "reason", "crop", "deliveries", "error"]);
    let (mut shown, mut more) = (0, false);
    while let Some(entry) = reader.next().await? {
        if shown == limit {
            more = true;
            break;
        }
        let told = Told::of(entry);
        shown += 1;
        if !json {
            table.add_row(told.row());
        } else if !output::line_read(serde_json::to_string(&told)?) {
            return Ok(Exit::Success);
        }
    }
    for column in [0, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    match (json, shown) {
        (true, _) => {}
        (false, 0) => output::line("no dead letter fits"),
        (false, _) => output::line(table),
    }
    if more {
        output::say(format_args!("these are the oldest {limit}, and there are more: --limit, or a narrower filter"));
    }
    Ok(Exit::Success)
}

async fn show(letters: &DeadLetters, sequence: u64, json: bool) -> anyhow::Result<Exit> {
    let told = Told::of(letters.get(sequence).await.map_err(explained)?);
    if json {
        output::json(&told)?;
        return Ok(Exit::Success);
    }
    let mut table = output::table(&["sequence", &told.sequence.to_string()]);
    let crop = told.crop_id.clone().unwrap_or_else(|| "not known".to_owned());
    let received = told.received_at.map_or_else(|| "not known".to_owned(), format::moment);
    let replay = told.not_replayable.clone().unwrap_or_else(|| format!("facewire dead replay {sequence}"));
    let bytes = format::bytes(told.payload_bytes as u64);
    let lines = [
        ("stage", &told.stage),
        ("reason", &told.reason),
        ("error", &told.error),
        ("crop", &crop),
        ("deliveries", &told.deliveries.to_string()),
        ("received", &received),
        ("died", &format::moment(told.died_at)),
        ("subject", &told.subject),
        ("message", &format!("{bytes}; not shown, it may hold a face")),
        ("replay", &replay),
    ];
    let headers = told.headers.iter().map(|(name, value)| (format!("header {name}"), value));
    for (name, value) in lines.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(headers) {
        table.add_row([plain(&name, usize::MAX), plain(value, usize::MAX)]);
    }
    output::line(table);
    if told.crop_id.is_some() {
        let crop = plain(&crop, SHORT);
        output::line(format_args!("`facewire why {crop}` tells the whole life of the crop"));
    }
    Ok(Exit::Success)
}

/// The error, and what to do about it where it does not say.
fn explained(error: BusError) -> anyhow::Error {
    match error {
        BusError::NoLetter { .. } => anyhow!("{error}; `facewire dead list` shows those that there are"),
        other => other.into(),
    }
}

/// Whether another dead letter may fare better.
fn of_the_dead_letter(error: &BusError) -> bool {
    use BusError::{LetterRemains, NoLetter, NoOriginal, NotALetter, TooLarge};
    matches!(error, NoLetter { .. } | NoOriginal { .. } | NotALetter { .. } | TooLarge { .. } | LetterRemains { .. })
}

/// What is done to dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Replay,
    Drop,
}

/// What became of the dead letters.
#[derive(Debug, Default)]
struct Tally {
    done: usize,
    /// Put back by somebody else a moment ago.
    before: usize,
    /// Chosen by the filter, and gone when their turn came: somebody else was quicker.
    gone: usize,
    failed: usize,
}

impl Act {
    async fn on(self, letters: &DeadLetters, choice: &DeadChoice) -> anyhow::Result<Exit> {
        // Noted before anything is put back: what dies again is not of this run.
        let sequences = match choice.all {
            true => letters.sequences(filter(&choice.which)).await?,
            false => choice.sequences.clone(),
        };
        if sequences.is_empty() {
            output::line("no dead letter fits");
            return Ok(Exit::Success);
        }
        let sure = choice.yes || !(choice.all || sequences.len() > MANY);
        if !sure && !self.confirmed(sequences.len()).await? {
            output::say("nothing was changed");
            return Ok(Exit::Failed);
        }
        let mut tally = Tally::default();
        let ended = self.each(letters, &sequences, choice.all, &mut tally).await;
        self.sum_up(&tally);
        ended?;
        Ok(if tally.failed == 0 { Exit::Success } else { Exit::Failed })
    }

    /// Goes on after a dead letter that cannot be had, and ends where the server is at fault: the others would fare no better.
    /// What is under way then comes to its end, so that no dead letter is left half done.
    async fn each(self, letters: &DeadLetters, sequences: &[u64], all: bool, tally: &mut Tally) -> anyhow::Result<()> {
        let stop = AtomicBool::new(false);
        let mut acts = stream::iter(sequences)
            .take_while(|_| std::future::ready(!stop.load(Ordering::Relaxed)))
            .map(|&sequence| async move { (sequence, self.one(letters, sequence).await) })
            .buffered(AT_A_TIME);
        let mut fault = None;
        while let Some((sequence, ended)) = acts.next().await {
            match ended {
                Ok(false) => tally.done += 1,
                Ok(true) => tally.before += 1,
                Err(BusError::NoLetter { .. }) if all => tally.gone += 1,
                Err(error) => {
                    tally.failed += 1;
                    let at_fault = !of_the_dead_letter(&error);
                    let error = explained(error);
                    if at_fault {
                        stop.store(true, Ordering::Relaxed);
                        fault.get_or_insert(error.context(format!("at dead letter {sequence}")));
                    } else {
                        output::say(format_args!("error: {}", plain(&format!("{error:#}"), usize::MAX)));
                    }
                }
            }
        }
        fault.map_or(Ok(()), Err)
    }

    /// Whether a message was back already.
    async fn one(self, letters: &DeadLetters, sequence: u64) -> Result<bool, BusError> {
        match self {
            Self::Replay => letters.replay(sequence).await.map(|replayed| replayed.published.duplicate),
            Self::Drop => letters.remove(sequence).await.map(|()| false),
        }
    }

    fn sum_up(self, tally: &Tally) {
        output::line(match self {
            Self::Replay => format!("{} put back", counted(tally.done)),
            Self::Drop => format!("{} dropped", counted(tally.done)),
        });
        let notes = [
            (tally.before, "had been put back a moment ago, and came only once"),
            (tally.gone, "had been taken by somebody else"),
            (tally.failed, "could not be; the errors say why"),
        ];
        for (count, note) in notes.into_iter().filter(|(count, _)| *count > 0) {
            output::say(format_args!("{} {note}", counted(count)));
        }
    }

    /// Asks a person; without one, the command line must say it.
    async fn confirmed(self, count: usize) -> anyhow::Result<bool> {
        let question = match self {
            Self::Replay => format!("put {} back where they died?", counted(count)),
            Self::Drop => format!("drop {} for good?", counted(count)),
        };
        if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            bail!("{question} Nobody is here to ask: say --yes (`facewire dead list` shows them)");
        }
        output::say(format_args!("{question} [y/N]"));
        let answer = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map(|_| line)
        });
        let answer = answer.await?.context("the answer cannot be read")?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}

fn counted(count: usize) -> String {
    if count == 1 {
        "1 dead letter".to_owned()
    } else {
        format!("{} dead letters", indicatif::HumanCount(count as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use facewire_contracts::v1;

    fn told(letter: v1::DeadLetter) -> Told {
        Told::of(DeadLetterEntry {
            sequence: 7,
            subject: "dead.embed.timeout".to_owned(),
            stage: "embed".to_owned(),
            reason: "timeout".to_owned(),
            died_at: OffsetDateTime::UNIX_EPOCH,
            received_at: None,
            letter: Some(letter),
        })
    }

    #[test]
    fn a_message_is_told_by_its_size_alone() {
        let letter = v1::DeadLetter {
            subject: "stage.embed.office".to_owned(),
            payload: bytes::Bytes::from_static(b"somebody's face"),
            delivered: 6,
            ..v1::DeadLetter::default()
        };
        let json = serde_json::to_value(told(letter)).unwrap();
        assert_eq!((&json["payload_bytes"], &json["sequence"]), (&15.into(), &7.into()));
        assert!(!json.to_string().contains("somebody") && json.get("payload").is_none(), "{json}");
        assert!(json.get("not_replayable").is_none(), "{json}");
        let bare = serde_json::to_value(told(v1::DeadLetter::default())).unwrap();
        assert!(bare["not_replayable"].as_str().unwrap().contains("was not kept"), "{bare}");
    }

    #[test]
    fn text_of_strangers_moves_no_cursor_and_has_an_end() {
        assert_eq!(plain("a\u{1b}[2Jb\nc", SHORT), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(plain("äöüß", 4), "äöüß");
        assert_eq!(plain("äöüß", 3), "äöü…");
    }
}
