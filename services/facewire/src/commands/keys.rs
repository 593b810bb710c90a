//! `facewire keys`: create, list, revoke. A key's text is printed once, to standard output, and goes nowhere else.

use std::time::Duration;

use anyhow::{Context, bail};
use facewire_composition::Config;
use facewire_domain::{CollectionId, Scope};
use facewire_store_pg::{Actor, KeyRecord, KeyState, NewKey, Store};
use serde_json::json;
use time::OffsetDateTime;

use super::{connect, format};
use crate::cli::{CreateKey, Keys, KeysCommand};
use crate::output::{self, Exit};

pub(crate) async fn run(config: Config, args: &Keys) -> anyhow::Result<Exit> {
    let store = connect::postgres(&config).await?;
    store.check_schema().await?;
    let actor = Actor::named("facewire keys");
    match &args.command {
        KeysCommand::Create(create) => self::create(&store, create, &actor, args.json).await?,
        KeysCommand::List => list(&store.list_keys().await?, args.json)?,
        KeysCommand::Revoke { key } => {
            if !store.revoke_key(*key, &actor).await? {
                bail!("there is no key {key}; `facewire keys list` shows all");
            }
            if args.json {
                output::json(&json!({ "key_id": key, "state": KeyState::Revoked }))?;
            } else {
                output::line(format_args!("{key} is revoked"));
            }
        }
    }
    Ok(Exit::Success)
}

async fn create(store: &Store, args: &CreateKey, actor: &Actor, json: bool) -> anyhow::Result<()> {
    let new = NewKey {
        name: args.name.clone(),
        scopes: args.scopes.clone(),
        collections: (!args.collections.is_empty()).then(|| args.collections.clone()),
        expires_at: args.expires.map(end).transpose()?,
    };
    let (record, text) = store.create_key(&new, actor).await?;
    if json {
        return output::json(&json!({ "key": text.expose(), "record": record }));
    }
    output::say(format_args!("key {} ({}), which is shown only now:", record.key_id, said(&record)));
    output::line(text.expose());
    Ok(())
}

fn end(expires: Duration) -> anyhow::Result<OffsetDateTime> {
    let end = time::Duration::try_from(expires).ok().and_then(|time| OffsetDateTime::now_utc().checked_add(time));
    end.context("--expires is too far away; leave it out for a key that does not end")
}

fn list(keys: &[KeyRecord], json: bool) -> anyhow::Result<()> {
    let now = OffsetDateTime::now_utc();
    if json {
        let keys = keys.iter().map(|key| json!({ "state": key.state(now), "record": key }));
        return output::json(&json!({ "keys": keys.collect::<Vec<_>>() }));
    }
    if keys.is_empty() {
        output::line("there are no keys; `facewire keys create` makes one");
        return Ok(());
    }
    let mut table = output::table(&["key", "name", "state", "scopes", "collections", "ends", "last used"]);
    for key in keys {
        let state = match key.state(now) {
            KeyState::Valid => "valid",
            KeyState::Expired => "expired",
            KeyState::Revoked => "revoked",
        };
        let time = |at: Option<OffsetDateTime>| at.map_or_else(|| "never".to_owned(), format::moment);
        table.add_row([
            key.key_id.to_string(),
            key.name.clone(),
            state.to_owned(),
            scopes(key),
            collections(key),
            time(key.expires_at),
            time(key.last_used_at),
        ]);
    }
    output::line(table);
    Ok(())
}

fn said(key: &KeyRecord) -> String {
    let ends = key.expires_at.map(|end| format!(", ends {}", format::moment(end))).unwrap_or_default();
    format!("{}; {}{ends}", scopes(key), collections(key))
}

fn scopes(key: &KeyRecord) -> String {
    key.scopes.iter().copied().map(Scope::as_str).collect::<Vec<_>>().join(", ")
}

fn collections(key: &KeyRecord) -> String {
    let names = |all: &Vec<CollectionId>| all.iter().map(CollectionId::as_str).collect::<Vec<_>>().join(", ");
    key.collections.as_ref().map_or_else(|| "all collections".to_owned(), names)
}
