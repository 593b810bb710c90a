//! The command line of `nats-config`.

use std::path::PathBuf;

use clap::Args;
use facewire_domain::CollectionId;

#[derive(Debug, Args)]
pub(crate) struct NatsConfig {
    /// Where the configuration and the key files lie. What is there already stays; keep it as safe as the seeds in it.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Also make a user for the producers of this collection. Repeatable; a producer whose key is in DIR stays without it.
    #[arg(long = "collection", value_name = "NAME")]
    pub(crate) collections: Vec<CollectionId>,
    /// Servers that hold each stream (default: `nats.replicas`). With one, the whole configuration of a server is written.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub(crate) replicas: Option<u8>,
    /// The one server speaks TLS alone, with DIR/tls/server.crt and DIR/tls/server.key. deploy/nats/cluster.conf has it for
    /// a cluster.
    #[arg(long)]
    pub(crate) tls: bool,
    /// Make no seeds: each user's public key is in DIR/NAME.pub, and its seed is somebody else's matter.
    #[arg(long)]
    pub(crate) public_only: bool,
    /// One JSON object, with the subjects of every user.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> Result<NatsConfig, clap::Error> {
        let words = ["facewire", "nats-config"].into_iter().chain(line.split_ascii_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::NatsConfig(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_directory_is_named_and_no_more_servers_than_a_stream_may_have() {
        let args = parse("--dir keys --collection office --collection vault --replicas 3").unwrap();
        assert_eq!((args.collections.len(), args.replicas, args.tls), (2, Some(3), false));
        for line in ["", "--dir keys --replicas 0", "--dir keys --replicas 6", "--dir keys --collection a.b"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
