//! `facewire people`: merge, split, assign, hide, erase. What each means stands in the gallery; what erasing the streams adds to it, in
//! `erasure`.

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, bail};
use facewire_bus::Bus;
use facewire_composition::Config;
use facewire_domain::{CollectionId, FaceId, ImageHash, JobKind, PersonId, SubjectId};
use facewire_gallery::{Erasure, Gallery};
use facewire_store_pg::{Actor, Assignment};
use serde::Serialize;
use serde_json::json;

use super::jobs::{self, NewJob};
use super::receipt;
use crate::cli::{ErasureArgs, People, PeopleCommand, Waiting};
use crate::output::{self, Exit};

/// As connections name it.
const COMMAND: &str = "people";
/// Who changed it, as rows and the audit trail say.
const BY: &str = "facewire people";

pub(crate) async fn run(config: Config, args: &People) -> anyhow::Result<Exit> {
    let gallery = super::connect::gallery(&config).await?;
    let (collection, actor) = (&args.collection, Actor::named(BY));
    let person = |subject: &SubjectId| PersonId::derive(collection, subject);
    let (text, said) = match &args.command {
        PeopleCommand::Merge { from, into } => {
            let moved = gallery.merge(person(from), person(into), &actor).await?;
            let moved = moved.with_context(|| {
                format!("{from} and {into} are not two people of collection {collection}, or one was merged before")
            })?;
            (format!("{from} is {into} now; {} faces moved", moved.faces), json!({ "faces": moved.faces }))
        }
        PeopleCommand::Split { from, to, name, faces } => {
            let name = name.as_deref().unwrap_or(to.as_str());
            let split = gallery.split(collection, person(from), faces, to, name, &actor).await?;
            let split =
                split.with_context(|| format!("none of these faces is of {from} in collection {collection}"))?;
            let count = split.faces.len();
            (format!("{count} faces of {from} are of {to} now"), json!({ "person_id": split.person, "faces": count }))
        }
        PeopleCommand::Assign { to, force, faces, .. } => {
            let assignment = Assignment { force: *force, ..Assignment::to(to.as_ref().map(person)) };
            let given = Given::give(&gallery, collection, faces, assignment).await?;
            if args.json {
                output::json(&given)?;
            } else {
                output::line(given.told(collection, to.as_ref().map_or("nobody", SubjectId::as_str)));
            }
            return Ok(if given.is_all() { Exit::Success } else { Exit::ProblemsFound });
        }
        PeopleCommand::Hide { person: subject, undo } => {
            if !gallery.store.hide_person(person(subject), !undo, &actor).await? {
                bail!("collection {collection} has no person {subject}, or they were merged into another");
            }
            let now = if *undo { "named again" } else { "hidden: recognised, and never named" };
            (format!("{subject} is {now}"), json!({ "hidden": !undo }))
        }
        PeopleCommand::Erase { which, yes, queue } => {
            let (what, named) = erasure(collection, which).await?;
            if !yes && !confirmed(&named)? {
                return Ok(Exit::Failed);
            }
            if *queue {
                return erase_later(&config, collection, &what, args.json).await;
            }
            let bus = super::connect::nats(&config, COMMAND).await?;
            return erase(&gallery, &bus, &what, &named, args.json).await;
        }
    };
    if args.json {
        output::json(&said)?
    } else {
        output::line(text)
    }
    Ok(Exit::Success)
}

/// What became of the faces that were named, each once.
#[derive(Debug, Default, Serialize)]
struct Given {
    /// How many changed hands.
    faces: u64,
    /// How many were theirs before.
    already: u64,
    /// Faces of which somebody said that they are not that person's: they stay where they are.
    refused: Vec<FaceId>,
    /// What is no face of the collection.
    unknown: Vec<FaceId>,
    #[serde(skip)]
    named: u64,
}

impl Given {
    async fn give(
        gallery: &Gallery,
        collection: &CollectionId,
        faces: &[FaceId],
        assignment: Assignment,
    ) -> anyhow::Result<Self> {
        let named: BTreeSet<FaceId> = faces.iter().copied().collect();
        let mut given = Self { named: named.len() as u64, ..Self::default() };
        let mut others = Vec::new();
        for face in &named {
            match gallery.store.face(*face).await?.filter(|found| found.collection == *collection) {
                None => given.unknown.push(*face),
                Some(found) if found.person == assignment.to => given.already += 1,
                Some(_) => others.push(*face),
            }
        }
        // All of them: what a job gave to that person before is confirmed so.
        let named: Vec<FaceId> = named.into_iter().collect();
        let moved = gallery.reassign(collection, &named, assignment, &Actor::named(BY)).await?;
        let moved =
            moved.with_context(|| format!("collection {collection} has no such person, or they were merged"))?;
        given.faces = moved.faces;
        given.refused = moved.refused.into_iter().filter(|face| others.contains(face)).collect();
        Ok(given)
    }

    /// Whether all that were named are whose they should be.
    fn is_all(&self) -> bool {
        self.faces + self.already >= self.named
    }

    fn told(&self, collection: &CollectionId, whose: &str) -> String {
        let mut lines = vec![format!("{} faces are of {whose} now", self.faces)];
        if self.already > 0 {
            lines.push(format!("{} were before", self.already));
        }
        let why =
            format!("stays where it is: somebody said that it is not {whose}'s; --force gives it to them all the same");
        lines.extend(self.refused.iter().map(|face| format!("{face} {why}")));
        lines.extend(self.unknown.iter().map(|face| format!("{face} is no face of collection {collection}")));
        lines.join("\n")
    }
}

/// What is erased, and the same in the words of whoever asks for it.
async fn erasure(collection: &CollectionId, which: &ErasureArgs) -> anyhow::Result<(Erasure, String)> {
    match which {
        ErasureArgs { person: Some(subject), .. } => {
            let named = format!("person {subject} of collection {collection}");
            Ok((Erasure::Person(PersonId::derive(collection, subject)), named))
        }
        ErasureArgs { image: Some(file), .. } => {
            let bytes = tokio::fs::read(file).await.with_context(|| format!("cannot read {}", file.display()))?;
            let named = format!("the faces of the picture {} in collection {collection}", file.display());
            Ok((Erasure::Image(collection.clone(), ImageHash::of(&bytes)), named))
        }
        ErasureArgs { asset: Some(asset), .. } => {
            let named = format!("the faces of asset {asset} in collection {collection}");
            Ok((Erasure::Asset(collection.clone(), asset.clone()), named))
        }
        ErasureArgs { before: Some(before), .. } => {
            let named = format!("every face of collection {collection} stored before {before}");
            Ok((Erasure::Before(collection.clone(), *before), named))
        }
        ErasureArgs { person: None, image: None, asset: None, before: None } => {
            bail!("name what to erase: --person, --image, --asset or --before")
        }
    }
}

/// Asks on a terminal; without one, `--yes` is needed.
fn confirmed(named: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("erasing cannot be undone: say --yes");
    }
    let mut error = std::io::stderr().lock();
    write!(error, "erase {named} for good? [y/N] ")?;
    error.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Has a job erase.
async fn erase_later(config: &Config, collection: &CollectionId, what: &Erasure, json: bool) -> anyhow::Result<Exit> {
    let params = facewire_erasure::params_of(what);
    params.check()?;
    let (params, waiting) = (serde_json::to_value(params)?, Waiting { wait: false, no_wait: true });
    jobs::start(config, NewJob { command: COMMAND, kind: JobKind::Erase, collection, params, waiting, json }).await
}

async fn erase(gallery: &Gallery, bus: &Bus, what: &Erasure, named: &str, json: bool) -> anyhow::Result<Exit> {
    let receipt = facewire_erasure::erase(gallery, bus, what, &Actor::named(BY), std::future::ready(())).await?;
    // No such person or collection: a misspelt id must not pass for an erasure.
    let is_nobody = receipt.erasure.is_none();
    if is_nobody {
        let missing = if matches!(what, Erasure::Person(_)) { "person" } else { "collection" };
        output::say(format_args!("nothing was erased: there is no such {missing} ({named})"));
    }
    if json {
        output::json(&receipt)?;
    } else if !is_nobody {
        output::line(receipt::table(&receipt));
    }
    Ok(if is_nobody { Exit::ProblemsFound } else { Exit::Success })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faces_that_stay_are_told_and_are_not_all() {
        let [refused, unknown] = [1, 2].map(|number| FaceId::from(uuid::Uuid::from_u128(number)));
        let given = Given { faces: 1, already: 1, refused: vec![refused], unknown: vec![unknown], named: 4 };
        let told = given.told(&"office".parse().unwrap(), "ada");
        assert!(!given.is_all() && told.starts_with("1 faces are of ada now\n1 were before\n"), "{told}");
        assert!(told.contains(&format!("{refused} stays")) && told.contains("--force"), "{told}");
        assert!(told.contains(&format!("{unknown} is no face of collection office")), "{told}");
        assert!(Given { named: 2, ..given }.is_all());
    }

    #[tokio::test]
    async fn what_is_to_be_erased_is_told_as_it_was_typed() {
        let office: CollectionId = "office".parse().unwrap();
        let nothing = || ErasureArgs { person: None, image: None, asset: None, before: None };
        let ada = ErasureArgs { person: Some("ada".parse().unwrap()), ..nothing() };
        let album = ErasureArgs { asset: Some("album-7".to_owned()), ..nothing() };
        assert_eq!(erasure(&office, &ada).await.unwrap().1, "person ada of collection office");
        assert_eq!(erasure(&office, &album).await.unwrap().1, "the faces of asset album-7 in collection office");
        assert!(erasure(&office, &nothing()).await.is_err());
    }
}
