//! Prototypes kept up to date: Postgres notes whose faces changed, and this chooses anew who stands for them. Several
//! instances may do it at once: they choose the same.

use std::collections::HashMap;
use std::sync::Arc;

use facewire_domain::PersonId;
use facewire_runtime::ActorError;
use facewire_store_pg::StalePerson;
use facewire_telemetry::events;
use time::OffsetDateTime;

use crate::failure::{Fate, JobError};
use crate::kinds::Context;
use crate::kinds::prototypes::choose;
use crate::progress::Progress;

/// Persons of one round.
const ROUND: u32 = 64;

/// Persons whose prototypes cannot be chosen that are remembered; beyond it the memory starts anew.
const REMEMBERED: usize = 1024;

/// Persons whose prototypes cannot be chosen, with the change after which that was so: told once.
type GivenUp = HashMap<PersonId, OffsetDateTime>;

/// The actor.
pub(crate) async fn keep(context: Context) -> Result<(), ActorError> {
    let mut given_up = GivenUp::new();
    loop {
        let more = tokio::select! {
            // What is not written is still out of date.
            () = context.shutdown.draining() => return Ok(()),
            more = round(&context, &mut given_up) => more,
        };
        match more {
            Ok(true) => continue,
            Ok(false) => {}
            // A store that it waited for.
            Err(_) if context.shutdown.is_draining() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = context.shutdown.draining() => return Ok(()),
            () = tokio::time::sleep(context.options.prototypes_interval) => {}
        }
    }
}

/// Whether more of them are out of date.
async fn round(context: &Context, given_up: &mut GivenUp) -> Result<bool, JobError> {
    let persons = context.ask(|| context.store().count_stale_persons()).await?;
    events::PrototypesWaiting { persons }.emit();
    let stale = context.ask(|| context.store().stale_persons(ROUND)).await?;
    let full = stale.len() >= ROUND as usize;
    if given_up.len() > REMEMBERED {
        given_up.clear();
    }
    let due: Vec<StalePerson> =
        stale.into_iter().filter(|stale| given_up.get(&stale.person) != Some(&stale.since)).collect();
    if due.is_empty() {
        return Ok(false);
    }
    // Embeddings of another model cannot be compared with these.
    context.ask(|| context.gallery.check_serving()).await?;
    let progress = Arc::new(Progress::default());
    for StalePerson { person, since, .. } in due {
        match choose(context, &progress, person, context.options.exemplars, Some(since)).await {
            Ok(_) => {}
            Err(error) if error.fate() == Fate::Fails => {
                tracing::error!(%person, %error, "a person's prototypes cannot be chosen");
                given_up.insert(person, since);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(full)
}
