//! The arguments of `facewire keys`: API keys of the HTTP interface.

use std::time::Duration;

use clap::{Args, Subcommand};
use facewire_domain::{CollectionId, Scope};
use uuid::Uuid;

use super::duration;

#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
    /// One JSON object.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a key and print it. It is shown once: only a hash of it is stored.
    Create(CreateKey),
    /// List keys, also expired and revoked ones.
    List,
    /// Revoke a key for good.
    Revoke {
        /// The key's id, as `create` and `list` show it.
        #[arg(value_name = "KEY_ID")]
        key: Uuid,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateKey {
    /// Whose the key is, or what it is for.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// What the key permits: read, recognise, enrol, embed or admin. Repeatable; no scope implies another.
    #[arg(long = "scope", required = true, value_name = "SCOPE")]
    pub(crate) scopes: Vec<Scope>,
    /// Only for this collection. Repeatable; without it the key is for all.
    #[arg(long = "collection", value_name = "NAME")]
    pub(crate) collections: Vec<CollectionId>,
    /// The key ends by itself after this time, e.g. `90d`; without it, never.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) expires: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn keys(line: &str) -> Result<Keys, clap::Error> {
        let words = ["facewire", "keys"].into_iter().chain(line.split_ascii_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Keys(keys) => Ok(keys),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_has_a_name_and_scopes_that_exist() {
        let line = "create --name door --scope recognise --scope enrol --collection office --expires 90d --json";
        let Keys { command: KeysCommand::Create(create), json: true } = keys(line).unwrap() else { panic!() };
        assert_eq!(create.scopes, [Scope::Recognise, Scope::Enrol]);
        assert_eq!((create.collections.len(), create.expires), (1, Some(Duration::from_secs(90 * 24 * 3600))));
        for line in ["create --scope read", "create --name a", "create --name a --scope root", "revoke x", ""] {
            assert!(keys(line).is_err(), "{line}");
        }
    }
}
