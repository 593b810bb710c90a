//! The configuration of a nats-server: the accounts with every user's permissions, which each server of a cluster includes,
//! and a server of its own for where there is one. Text only; keys and rights come from elsewhere.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use facewire_bus::{Options, Rights};
use serde_json::json;

use super::{SYSTEM, User};

/// Facewire's account. KEDA asks for it by this name.
pub const ACCOUNT: &str = "FACEWIRE";

/// Bytes of the account beside what streams reserve now: buckets of former lengths of leases' lives, and a stream that an
/// operator adds.
const SPARE_BYTES: u64 = 1 << 30;

/// Memory for the state of readers; no stream lies in memory.
const MEMORY_BYTES: u64 = 64 << 20;

/// The largest message, headers included: a crop or a whole frame. Larger crops are refused by `ingest.max_bytes`.
const MAX_PAYLOAD: u64 = 16 << 20;

/// The file of the accounts.
pub const ACCOUNTS_FILE: &str = "accounts.conf";
/// The file of the one server.
pub const SERVER_FILE: &str = "server.conf";

/// The files of the configuration, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The accounts, for `include`.
    pub accounts: String,
    /// One server that includes them, where there is one.
    pub server: Option<String>,
    /// Bytes of disk that each server sets aside at least (`max_file_store`).
    pub server_bytes: u64,
}

impl ServerFiles {
    /// Of these users with their public keys. `options` say how many bytes each stream reserves, `replicas` how many servers
    /// hold each; `system` is the public key of the system account's user; `tls`: the one server speaks TLS alone.
    pub fn of(users: &[(User, String)], system: &str, options: &Options, replicas: u8, tls: bool) -> Self {
        let server_bytes = options.reserved_bytes().saturating_add(SPARE_BYTES);
        // The account's limit counts a byte once for each copy.
        let account_bytes = server_bytes.saturating_mul(replicas.max(1).into());
        Self {
            accounts: accounts(users, system, account_bytes),
            server: (replicas <= 1).then(|| server(server_bytes, tls)),
            server_bytes,
        }
    }

    /// Writes them into a directory; a file that says this already is not touched. Whether anything changed.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn write(&self, directory: &Path) -> anyhow::Result<bool> {
        let accounts = replace(&directory.join(ACCOUNTS_FILE), &self.accounts)?;
        let server = self.server.as_ref().map(|text| replace(&directory.join(SERVER_FILE), text)).transpose()?;
        Ok(accounts || server.unwrap_or(false))
    }
}

/// Replaces a file as a whole: a server that reloads meanwhile reads the old one or the new.
fn replace(file: &Path, text: &str) -> anyhow::Result<bool> {
    let said = || format!("cannot write {}", file.display());
    match fs::read_to_string(file) {
        Ok(there) if there == text => return Ok(false),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
    let new = file.with_extension("new");
    fs::write(&new, text).with_context(said)?;
    fs::rename(&new, file).with_context(said)?;
    Ok(true)
}

fn accounts(users: &[(User, String)], system: &str, bytes: u64) -> String {
    let mut text = format!(
        "# Written by `facewire nats-config`; changed by running it again. It holds no secret.\n\
         # After a change: nats-server --signal reload\n\
         accounts {{\n\
         \x20 {ACCOUNT} {{\n\
         \x20   jetstream {{ max_file: {bytes}, max_memory: {MEMORY_BYTES} }}\n\
         \x20   users: [\n"
    );
    for (user, public) in users {
        let permissions = permissions(&user.rights);
        let _ = write!(
            text,
            "      # {}: {}\n      {{ nkey: {public}, permissions: {permissions} }}\n",
            user.name, user.purpose
        );
    }
    let _ = write!(
        text,
        "    ]\n  }}\n  SYS {{\n    users: [\n      # {SYSTEM}\n      {{ nkey: {system} }}\n    ]\n  }}\n}}\n\
         system_account: SYS\n"
    );
    text
}

/// As JSON, which the server's own language includes. What is not allowed is denied.
fn permissions(rights: &Rights) -> String {
    let list = |subjects: &BTreeSet<String>| json!({ "allow": subjects });
    json!({ "publish": list(&rights.publish), "subscribe": list(&rights.subscribe) }).to_string()
}

fn server(bytes: u64, tls: bool) -> String {
    let mut text = format!(
        "# Written by `facewire nats-config`: one server, started in this directory. For three see deploy/nats/cluster.conf.\n\
         server_name: facewire\n\
         listen: \"0.0.0.0:4222\"\n\
         # The monitoring port, which needs no user. Loopback: whoever scrapes it from another host (Prometheus, KEDA)\n\
         # changes the address and guards the port.\n\
         http: \"127.0.0.1:8222\"\n\
         max_payload: {MAX_PAYLOAD}\n\
         jetstream {{ store_dir: \"data\", max_file_store: {bytes} }}\n"
    );
    if tls {
        text.push_str("tls { cert_file: \"tls/server.crt\", key_file: \"tls/server.key\" }\n");
    }
    let _ = writeln!(text, "include \"{ACCOUNTS_FILE}\"");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn files(replicas: u8, tls: bool) -> ServerFiles {
        let config = Config::default();
        let users = super::super::users(&config, &["office".parse().unwrap()]);
        let users: Vec<_> = users.into_iter().map(|user| (user, "UKEY".to_owned())).collect();
        ServerFiles::of(&users, "USYSTEM", &config.nats, replicas, tls)
    }

    #[test]
    fn the_account_may_hold_what_the_streams_reserve_on_every_replica() {
        let limit = Options::default().reserved_bytes() + SPARE_BYTES;
        for replicas in [1, 3] {
            let (files, wanted) = (files(replicas, false), format!("max_file: {},", limit * u64::from(replicas)));
            assert!(files.accounts.contains(&wanted), "{wanted}");
            assert_eq!((files.server_bytes, files.server.is_some()), (limit, replicas == 1));
        }
    }

    #[test]
    fn a_file_that_says_it_already_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let (plain, tls) = (files(1, false), files(1, true));
        assert!(plain.write(directory.path()).unwrap());
        assert!(!plain.write(directory.path()).unwrap());
        assert!(tls.write(directory.path()).unwrap());
        let server = fs::read_to_string(directory.path().join(SERVER_FILE)).unwrap();
        assert!(server.contains("tls/server.key") && !plain.server.unwrap().contains("tls"));
    }
}
