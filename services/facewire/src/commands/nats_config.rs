//! `facewire nats-config`: keys of NATS users, and the server's configuration with what each may do. It talks to no server,
//! and prints no seed.

use anyhow::{Context, bail};
use facewire_composition::Config;
use facewire_composition::access::{ACCOUNTS_FILE, Configured, NatsSetup, SERVER_FILE, configure};

use crate::cli::NatsConfig;
use crate::output::{self, Exit};

pub(crate) fn run(config: &Config, args: &NatsConfig) -> anyhow::Result<Exit> {
    let replicas = match args.replicas {
        Some(replicas) => replicas,
        None => replicas(config.nats.replicas)?,
    };
    if args.tls && replicas > 1 {
        bail!(
            "--tls is for {SERVER_FILE}, which is written for one server: in a cluster it stands in the file of each server"
        );
    }
    let setup = NatsSetup {
        directory: &args.dir,
        collections: &args.collections,
        replicas,
        tls: args.tls,
        public_only: args.public_only,
    };
    let done = configure(config, setup)?;
    if args.json {
        output::json(&done)?;
    } else {
        show(args, &done, replicas);
    }
    Ok(Exit::Success)
}

/// What a stream may have.
fn replicas(configured: usize) -> anyhow::Result<u8> {
    let replicas = u8::try_from(configured).ok().filter(|replicas| (1..=5).contains(replicas));
    replicas.with_context(|| format!("nats.replicas is {configured}, and must be 1 to 5"))
}

fn show(args: &NatsConfig, done: &Configured, replicas: u8) {
    let mut table = output::table(&["user", "for", "key", "public key", "nats.nkey", "nats.inbox_prefix"]);
    for user in &done.users {
        let seed = user.seed.as_ref().map_or_else(|| "elsewhere".to_owned(), |file| file.display().to_string());
        let inbox = user.inbox_prefix.as_deref().unwrap_or("-");
        table.add_row([user.name.as_str(), &user.purpose, user.key, &user.nkey, &seed, inbox]);
    }
    output::line(table);
    let files = if replicas > 1 { ACCOUNTS_FILE.to_owned() } else { format!("{ACCOUNTS_FILE} and {SERVER_FILE}") };
    let what =
        if done.changed { "written; `nats-server --signal reload` puts them in force" } else { "are up to date" };
    output::say(format_args!("{}: {files} {what}", args.dir.display()));
    output::say(format_args!("each server needs max_file_store: {} or more", done.max_file_store));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_servers_are_written_for_than_a_stream_may_have() {
        assert_eq!(replicas(3).unwrap(), 3);
        for wrong in [0, 6, 300] {
            assert!(replicas(wrong).unwrap_err().to_string().contains("nats.replicas"), "{wrong}");
        }
    }
}
