//! How a connection proves who it is, and that the server is the right one: the user's key or credentials, the inbox, TLS.
//! Every connection of a process is opened with the same.

use std::path::{Path, PathBuf};

use async_nats::{ConnectOptions, ServerAddr};
use facewire_config::Secret;
use percent_encoding::percent_decode_str;

use crate::error::BusError;
use crate::nkey::UserKey;
use crate::options::{Options, TlsOptions};

/// First tokens of subjects on which other things lie than answers.
const NOT_INBOXES: [&str; 7] = ["crops", "stage", "results", "dead", "jobs", "events", "replies"];

/// What was read for all connections of a process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// The user's seed; read once, so that connections that are opened later are of the same user.
    seed: Option<Secret>,
}

impl Access {
    /// Checks the options and reads the seed.
    ///
    /// # Errors
    /// [`BusError::Options`]; [`BusError::Key`].
    pub(crate) async fn read(options: &Options) -> Result<Self, BusError> {
        check(options)?;
        for path in options.tls.files() {
            // The client reads them at each connect, but its error does not name the file.
            tokio::fs::File::open(path).await.map_err(|error| unreadable("a TLS file", path, &error))?;
        }
        let Some(path) = &options.nkey else { return Ok(Self::default()) };
        let text = tokio::fs::read_to_string(path).await.map_err(|error| unreadable("the seed", path, &error))?;
        let text = Secret::new(text);
        let key = UserKey::from_seed(text.expose());
        let key = key.map_err(|error| BusError::Key(format!("{}: {error}", path.display())))?;
        Ok(Self { seed: key.seed().cloned() })
    }

    /// Puts all of it into the client's options.
    ///
    /// # Errors
    /// [`BusError::Credentials`].
    pub(crate) async fn apply(&self, options: &Options, connect: ConnectOptions) -> Result<ConnectOptions, BusError> {
        let TlsOptions { ca, certificate, key, required } = &options.tls;
        let mut connect = connect.custom_inbox_prefix(&options.inbox_prefix);
        // Who names an authority means to be asked for nothing less.
        connect = connect.require_tls(*required || ca.is_some() || certificate.is_some());
        if let Some(ca) = ca {
            connect = connect.add_root_certificates(ca.clone());
        }
        if let (Some(certificate), Some(key)) = (certificate, key) {
            connect = connect.add_client_certificate(certificate.clone(), key.clone());
        }
        if let Some(path) = &options.credentials {
            connect = connect.credentials_file(path).await.map_err(|error| BusError::Credentials(error.to_string()))?;
        }
        Ok(match &self.seed {
            Some(seed) => connect.nkey(seed.expose().to_owned()),
            None => as_in_url(options, connect),
        })
    }
}

/// The user of the first URL that names one, which the client itself passes over: with a password, or a token alone.
fn as_in_url(options: &Options, connect: ConnectOptions) -> ConnectOptions {
    let named = addresses(options).ok().and_then(|all| all.into_iter().find(ServerAddr::has_user_pass));
    let Some(address) = named else { return connect };
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    match (address.username(), address.password()) {
        (Some(user), Some(password)) => connect.user_and_password(plain(user), plain(password)),
        (Some(token), None) => connect.token(plain(token)),
        (None, _) => connect,
    }
}

/// All of them, or that one cannot be read.
fn addresses(options: &Options) -> std::io::Result<Vec<ServerAddr>> {
    options.url.expose().split(',').map(|url| url.trim().parse()).collect()
}

impl TlsOptions {
    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.ca, &self.certificate, &self.key].into_iter().flatten()
    }
}

fn unreadable(what: &str, path: &Path, error: &std::io::Error) -> BusError {
    BusError::Options(format!("{what} {} cannot be read: {error}", path.display()))
}

fn check(options: &Options) -> Result<(), BusError> {
    let wrong = |why: &str| Err(BusError::Options(why.to_owned()));
    // The client would say of it that no server can be reached, which is tried again without end. Nothing is quoted: it may hold
    // a password.
    let addresses = addresses(options).ok().filter(|all| all.iter().any(|address| !address.host().is_empty()));
    let Some(addresses) = addresses else {
        return wrong(
            "`url` is `nats://host:port` or `tls://host:port`, or several with commas between them (in a password, `%2C` is a \
             comma): what it has cannot be read as that",
        );
    };
    // The client is built without them, and would speak to a WebSocket as to any other server.
    if addresses.iter().any(ServerAddr::is_websocket) {
        return wrong("`url` has `ws://` or `wss://`, which are not spoken here: `nats://` and `tls://` are");
    }
    let in_url = addresses.iter().any(ServerAddr::has_user_pass);
    let ways = [options.nkey.is_some(), options.credentials.is_some(), in_url];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        return wrong("give one of `nkey`, `credentials` and a user in `url`, for the server takes one user");
    }
    if options.tls.certificate.is_some() != options.tls.key.is_some() {
        return wrong("`tls.certificate` and `tls.key` are given together or not at all");
    }
    if !is_inbox(&options.inbox_prefix) {
        return wrong(
            "`inbox_prefix` is one or more tokens of letters, digits, `_` and `-`, not one of Facewire's subjects",
        );
    }
    Ok(())
}

fn is_inbox(prefix: &str) -> bool {
    let plain = |token: &str| {
        !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    let first = prefix.split('.').next().unwrap_or_default();
    prefix.len() <= 128 && prefix.split('.').all(plain) && !NOT_INBOXES.contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_is_no_wildcard_and_none_of_our_subjects() {
        for good in ["_INBOX", "_INBOX_embed-gpu", "inbox.of.7"] {
            assert!(is_inbox(good), "{good}");
        }
        for bad in ["", ".", "a.", "a b", "a.*", ">", "$JS", "results.office", "replies", &"a".repeat(129)] {
            assert!(!is_inbox(bad), "{bad}");
        }
    }

    #[test]
    fn two_users_at_once_are_refused() {
        let nkey = Options { nkey: Some("a.nk".into()), ..Options::default() };
        let in_url = Secret::new("nats://127.0.0.1, nats://ada:pw@127.0.0.1");
        for options in [
            Options { credentials: Some("a.creds".into()), ..nkey.clone() },
            Options { url: in_url.clone(), ..nkey.clone() },
            Options { url: in_url.clone(), credentials: Some("a.creds".into()), ..Options::default() },
        ] {
            let said = check(&options).unwrap_err().to_string();
            assert!(said.contains("one user") && !said.contains("pw"), "{said}");
        }
        for options in [nkey, Options { url: in_url, ..Options::default() }, Options::default()] {
            check(&options).unwrap();
        }
    }

    #[test]
    fn a_websocket_is_refused() {
        for url in ["ws://127.0.0.1:80", "nats://127.0.0.1, wss://ada:pw@nats.example"] {
            let said = check(&Options { url: Secret::new(url), ..Options::default() }).unwrap_err().to_string();
            assert!(said.contains("wss://") && !said.contains("pw"), "{said}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_read_is_no_server_that_is_away() {
        for url in [
            "",
            "http://ada:pw@localhost:1",
            "nats://local host:4222",
            "nats://127.0.0.1, nats://ada:pw@127.0.0.1:port",
            // A comma within the password.
            "nats://ada:pw,x@127.0.0.1:4222",
        ] {
            let said = check(&Options { url: Secret::new(url), ..Options::default() }).unwrap_err();
            assert!(matches!(said, BusError::Options(_)), "{url}: {said:?}");
            let said = said.to_string();
            assert!(said.contains("`url`") && !said.contains("pw") && !said.contains("local"), "{said}");
        }
        for url in ["127.0.0.1", "nats://ada:pw@127.0.0.1:4222, tls://[::1]:4222", "nats://127.0.0.1,"] {
            check(&Options { url: Secret::new(url), ..Options::default() }).unwrap();
        }
    }

    #[test]
    fn a_certificate_has_a_key() {
        let tls = TlsOptions { certificate: Some("c.pem".into()), ..TlsOptions::default() };
        assert!(check(&Options { tls, ..Options::default() }).unwrap_err().to_string().contains("tls.key"));
    }

    #[tokio::test]
    async fn a_seed_that_cannot_be_used_is_named_by_its_file_alone() {
        let file = std::env::temp_dir().join(format!("facewire-no-seed-{}.nk", std::process::id()));
        std::fs::write(&file, "SUSECRET").unwrap();
        let options = Options { nkey: Some(file.clone()), ..Options::default() };
        let said = Access::read(&options).await.unwrap_err().to_string();
        std::fs::remove_file(&file).unwrap();
        assert!(said.contains(".nk") && !said.contains("SUSECRET"), "{said}");
        let said = Access::read(&options).await.unwrap_err().to_string();
        assert!(said.contains("cannot be read"), "{said}");
    }
}
