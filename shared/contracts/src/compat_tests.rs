//! Processes of two releases run side by side, and results are read by programs that know the last release: whatever was a message
//! then still is one (ARCHITECTURE.md, "Upgrades"). `compat/released.txt` is the list of the last release, as `build.rs` makes it,
//! and `compat/words.txt` that of the words.

use std::collections::{BTreeMap, BTreeSet};

use facewire_domain::{Intent, Reason, Stage, Status};

/// The messages as they were.
const RELEASED: &str = include_str!("../compat/released.txt");

/// The messages as they are.
const PRESENT: &str = include_str!(concat!(env!("OUT_DIR"), "/messages.txt"));

/// The words that messages say in text, released ones and those that came since.
const WORDS: &str = include_str!("../compat/words.txt");

/// A list, by what each line is about.
#[derive(Default)]
struct Messages<'a> {
    messages: BTreeSet<&'a str>,
    /// By message and number: name, label and type.
    fields: BTreeMap<(&'a str, &'a str), (&'a str, &'a str)>,
    /// By enum and number.
    values: BTreeMap<(&'a str, &'a str), &'a str>,
    /// Message, and a number or a name.
    reserved: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Messages<'a> {
    fn read(text: &'a str) -> Self {
        let mut messages = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match *line.splitn(5, ' ').collect::<Vec<_>>().as_slice() {
                ["message", name] => {
                    messages.messages.insert(name);
                }
                ["field", message, number, name, kind] => {
                    messages.fields.insert((message, number), (name, kind));
                }
                ["value", name, number, value] => {
                    messages.values.insert((name, number), value);
                }
                ["reserved", message, what] => {
                    messages.reserved.insert((message, what));
                }
                _ => panic!("a line of another form: {line}"),
            }
        }
        messages
    }
}

/// What a reader or writer of the former messages does not understand in the present ones.
fn faults(former: &str, present: &str) -> Vec<String> {
    let (former, present) = (Messages::read(former), Messages::read(present));
    let mut faults = Vec::new();
    for message in former.messages.difference(&present.messages) {
        faults.push(format!("{message} is gone"));
    }
    for ((message, number), (name, kind)) in &former.fields {
        let place = format!("{message}.{name} = {number}");
        match present.fields.get(&(*message, *number)) {
            Some((other, _)) if other != name => faults.push(format!("{place} is {other} now; its JSON has the name")),
            Some((_, other)) if other != kind => faults.push(format!("{place} was {kind} and is {other}")),
            Some(_) => {}
            None if present.reserved.contains(&(*message, *number))
                && present.reserved.contains(&(*message, *name)) => {}
            None => faults.push(format!("{place} is gone, and its number and name are not reserved")),
        }
    }
    for (message, what) in former.reserved.difference(&present.reserved) {
        faults.push(format!("{message}: {what} was reserved and is not"));
    }
    for ((name, number), value) in &former.values {
        if present.values.get(&(*name, *number)) != Some(value) {
            faults.push(format!("{name}.{value} = {number} is gone or has another name"));
        }
    }
    faults
}

#[test]
fn the_last_release_understands_every_message() {
    assert_eq!(faults(RELEASED, PRESENT), Vec::<String>::new(), "proto/ broke what the last release reads and writes");
    let (released, present) = (Messages::read(RELEASED), Messages::read(PRESENT));
    assert!(released.fields.contains_key(&("Result", "1")) && present.fields.len() >= released.fields.len());
}

/// The words as they are, by what they are words for.
fn words() -> BTreeSet<(&'static str, &'static str)> {
    let stages = Stage::ALL.into_iter().map(|stage| ("Stage", stage.as_str()));
    let intents = Intent::ALL.iter().map(|intent| ("Intent", intent.as_str()));
    let statuses = Status::ALL.iter().map(|status| ("Status", status.as_str()));
    let reasons = Reason::ALL.iter().map(|reason| ("Reason", reason.as_str()));
    stages.chain(intents).chain(statuses).chain(reasons).collect()
}

#[test]
fn the_last_release_knows_every_word() {
    let lines = WORDS.lines().filter(|line| !line.starts_with('#'));
    let listed: BTreeSet<(&str, &str)> = lines
        .map(|line| {
            let (word, comment) = line.split_once(" # ").map_or((line, None), |(word, comment)| (word, Some(comment)));
            assert!(comment.is_none_or(|comment| !comment.trim().is_empty()), "an empty comment: {line}");
            word.split_once(' ').unwrap_or_else(|| panic!("a line of another form: {line}"))
        })
        .collect();
    let words = words();
    let gone: Vec<_> = listed.difference(&words).collect();
    assert!(gone.is_empty(), "the last release writes these, and nobody reads them any more: {gone:?}");
    let new: Vec<_> = words.difference(&listed).collect();
    assert!(new.is_empty(), "new in messages: list in compat/words.txt, with a comment who reads them first: {new:?}");
}

const FORMER: &str = "\
# A comment.
message A
field A 1 name LABEL_OPTIONAL TYPE_STRING
field A 2 box LABEL_OPTIONAL .facewire.v1.Box
field A 3 share explicit TYPE_DOUBLE
reserved A 9
value E 0 NONE
";

#[track_caller]
fn breaks(change: (&str, &str), hint: &str) {
    let present = FORMER.replace(change.0, change.1);
    assert_ne!(present, FORMER, "the sample has no {:?}", change.0);
    let faults = faults(FORMER, &present);
    assert!(faults.len() == 1 && faults.iter().all(|fault| fault.contains(hint)), "wanted `{hint}`, got {faults:?}");
}

#[test]
fn a_field_is_never_renamed_renumbered_retyped_or_taken_away() {
    breaks(("1 name", "1 title"), "is title now");
    breaks(("1 name", "4 name"), "is gone");
    breaks(("2 box LABEL_OPTIONAL", "2 box LABEL_REPEATED"), "and is LABEL_REPEATED");
    breaks(("3 share explicit", "3 share LABEL_OPTIONAL"), "was explicit");
    breaks(("TYPE_DOUBLE", "TYPE_FLOAT"), "and is explicit TYPE_FLOAT");
    breaks(("field A 3 share explicit TYPE_DOUBLE\n", ""), "not reserved");
    breaks(("field A 3 share explicit TYPE_DOUBLE\n", "reserved A 3\n"), "not reserved");
    breaks(("reserved A 9\n", ""), "9 was reserved");
    breaks(("0 NONE", "0 NOTHING"), "E.NONE");
    breaks(("message A\n", ""), "A is gone");
}

#[test]
fn what_is_added_or_retired_in_order_is_understood() {
    assert!(faults(FORMER, FORMER).is_empty());
    let more = format!("{FORMER}message B\nfield A 4 more explicit TYPE_STRING\nvalue E 1 SOME\n");
    assert!(faults(FORMER, &more).is_empty());
    let retired = FORMER.replace("field A 3 share explicit TYPE_DOUBLE\n", "reserved A 3\nreserved A share\n");
    assert!(faults(FORMER, &retired).is_empty());
}
