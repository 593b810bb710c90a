//! TOML below, environment above.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that was named is not there or cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file that was named says nothing: taken for a configuration, it would mean every default.
    #[error(
        "the configuration file {path} is empty: is it being written, or does what mounts it fail? To have every \
         default, name no file"
    )]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// A key is unknown, or a value has the wrong form.
    #[error("configuration: {0}")]
    Invalid(String),
}

/// Prefix of the environment variables; `__` separates the levels: `FACEWIRE__NATS__URL`.
const PREFIX: &str = "FACEWIRE";

/// Reads `file` (if any) and lays the `FACEWIRE__…` variables of `environment` over it. A key that `T` does not know is an
/// error when `T` says `deny_unknown_fields`, in the file as in the environment.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let mut builder = config::Config::builder();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        // A device that is named to say that there is no file, as /dev/null, may be.
        if text.trim().is_empty() && path.is_file() {
            return Err(ConfigError::Empty { path: path.to_owned() });
        }
        builder = builder.add_source(config::File::from_str(&text, config::FileFormat::Toml));
    }
    let ours: HashMap<String, String> =
        environment.into_iter().filter(|(key, _)| key.starts_with("FACEWIRE__")).collect();
    let environment = config::Environment::with_prefix(PREFIX)
        .prefix_separator("__")
        .separator("__")
        .try_parsing(true)
        .source(Some(ours));
    builder
        .add_source(environment)
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|error| ConfigError::Invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;
    use serde::{Deserialize, Serialize};
    use std::time::Duration;

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Options {
        nats: Nats,
        limits: HashMap<String, f32>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Nats {
        url: Secret,
        #[serde(with = "crate::duration")]
        timeout: Duration,
        batch: usize,
    }

    impl Default for Nats {
        fn default() -> Self {
            Self { url: "nats://localhost".into(), timeout: Duration::from_secs(5), batch: 1 }
        }
    }

    fn from(toml: &str, env: &[(&str, &str)]) -> Result<Options, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("facewire.toml");
        std::fs::write(&path, toml).unwrap();
        load(Some(&path), env.iter().map(|(k, v)| (k.to_string(), v.to_string())))
    }

    #[test]
    fn the_environment_lies_over_the_file() {
        let env = [("FACEWIRE__NATS__TIMEOUT", "250ms"), ("FACEWIRE__NATS__BATCH", "7"), ("OTHER__NATS", "x")];
        let options = from("[nats]\ntimeout = \"1s\"\nurl = \"nats://a\"\n[limits]\ndoor-1 = 0.5", &env).unwrap();
        assert_eq!(options.nats.timeout, Duration::from_millis(250));
        assert_eq!((options.nats.batch, options.nats.url.expose()), (7, "nats://a"));
        assert_eq!(options.limits["door-1"], 0.5);
    }

    #[test]
    fn an_unknown_key_is_refused_wherever_it_stands() {
        assert!(from("[nats]\nurll = \"x\"", &[]).unwrap_err().to_string().contains("urll"));
        assert!(from("# none", &[("FACEWIRE__NATS__URLL", "x")]).unwrap_err().to_string().contains("urll"));
    }

    #[test]
    fn a_secret_never_shows() {
        let options = from("[nats]\nurl = \"nats://user:hunter2@a\"", &[]).unwrap();
        let printed = toml::to_string(&options).unwrap() + &format!("{options:?}");
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(printed.contains("***"));
    }

    #[test]
    fn an_empty_file_is_not_taken_for_every_default() {
        let error = from("\n", &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Empty { .. }), "{error}");
        assert_eq!(load::<Options>(Some(Path::new("/dev/null")), []).unwrap().nats.batch, 1);
        assert_eq!(from("# every default", &[]).unwrap().nats.batch, 1);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load::<Options>(Some(Path::new("/nowhere/facewire.toml")), []).unwrap_err();
        assert!(error.to_string().contains("/nowhere/facewire.toml"));
    }
}
