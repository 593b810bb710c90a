//! TOML below, environment above. An error names the place and what belongs there, and never the text that stands there: that
//! may be a secret, also where it stands in the wrong place.

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
    /// The file that was named is not TOML.
    #[error("the configuration file {path} is not TOML: {what}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where, and what is wrong there.
        what: String,
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
        builder = builder.add_source(read(path)?);
    }
    let ours: HashMap<String, String> =
        environment.into_iter().filter(|(key, _)| key.starts_with("FACEWIRE__")).collect();
    // Not `try_parsing`: an API key of digits would become a number. What has to be a number, its option's type knows.
    let environment =
        config::Environment::with_prefix(PREFIX).prefix_separator("__").separator("__").source(Some(ours));
    builder
        .add_source(environment)
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|error| ConfigError::Invalid(told(&error)))
}

/// What the file says.
fn read(path: &Path) -> Result<config::Config, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    // A device that is named to say that there is no file, as /dev/null, may be.
    if text.trim().is_empty() && path.is_file() {
        return Err(ConfigError::Empty { path: path.to_owned() });
    }
    let source = config::File::from_str(&text, config::FileFormat::Toml);
    let parsed = config::Config::builder().add_source(source).build();
    parsed.map_err(|error| ConfigError::Syntax { path: path.to_owned(), what: syntax(&error, &text) })
}

/// Where `text` is not TOML, and why. The library's own words show the whole line.
fn syntax(error: &config::ConfigError, text: &str) -> String {
    let config::ConfigError::FileParse { cause, .. } = error else { return told(error) };
    let Some(error) = cause.downcast_ref::<toml::de::Error>() else {
        // Nothing else is refused of what the parser took.
        return "a number in it is out of range".to_owned();
    };
    let Some(span) = error.span() else { return error.message().to_owned() };
    let before = text.get(..span.start).unwrap_or(text);
    let (line, column) =
        (before.split('\n').count(), before.rsplit('\n').next().unwrap_or_default().chars().count() + 1);
    format!("line {line}, column {column}: {}", error.message())
}

/// The error without the value that it is about.
fn told(error: &config::ConfigError) -> String {
    use config::ConfigError::{At, Message, NotFound, Type};
    let (what, key, origin) = match error {
        Type { unexpected, expected, key, origin } => {
            (format!("invalid type: {}, expected {expected}", kind(&unexpected.to_string())), key, origin)
        }
        At { error, key, origin } => (told(error), key, origin),
        Message(text) => return without_value(text),
        NotFound(_) => return error.to_string(),
        _ => return "it cannot be read".to_owned(),
    };
    let key = key.as_ref().map(|key| format!(" for key `{key}`")).unwrap_or_default();
    let origin = origin.as_ref().map(|origin| format!(" in {origin}")).unwrap_or_default();
    format!("{what}{key}{origin}")
}

/// What stands between the name of an enum and a value that is none of its variants.
const NO_VARIANT: &str = " does not have variant constructor ";

/// What serde says of a value, `invalid type: string "…", expected a map`, with its kind alone.
fn without_value(text: &str) -> String {
    if let Some((of, _)) = text.split_once(NO_VARIANT) {
        return format!("{of} does not have such a variant");
    }
    let parts = ["invalid type: ", "invalid value: ", "unknown variant"].into_iter().find_map(|begin| {
        let (found, expected) = text.strip_prefix(begin)?.rsplit_once(", expected ")?;
        Some((begin, found, expected))
    });
    match parts {
        Some((begin, found, expected)) => format!("{begin}{}, expected {expected}", kind(found)),
        None => text.to_owned(),
    }
}

/// `string` of `string "…"`, `integer` of ``integer `7` ``.
fn kind(found: &str) -> &str {
    found.split(['"', '`']).next().unwrap_or_default().trim_end()
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
        durable: bool,
        share: Option<f64>,
        mode: Mode,
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        Fast,
        Slow,
    }

    impl Default for Nats {
        fn default() -> Self {
            let (url, timeout) = ("nats://localhost".into(), Duration::from_secs(5));
            Self { url, timeout, batch: 1, durable: false, share: None, mode: Mode::Fast }
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
    fn a_variable_is_the_text_that_it_is_and_a_number_where_one_belongs() {
        for text in ["00123456", "1234567e12", "True", "off", "1e400", " x "] {
            let options = from("# none", &[("FACEWIRE__NATS__URL", text)]).unwrap();
            assert_eq!(options.nats.url.expose(), text);
        }
        let env = [
            ("FACEWIRE__NATS__BATCH", "7"),
            ("FACEWIRE__NATS__DURABLE", "True"),
            ("FACEWIRE__NATS__SHARE", "0.25"),
            ("FACEWIRE__LIMITS__DOOR", "3"),
        ];
        let options = from("[nats]\nbatch = 2", &env).unwrap();
        assert_eq!((options.nats.batch, options.nats.durable, options.nats.share), (7, true, Some(0.25)));
        assert_eq!(options.limits["door"], 3.0);
    }

    #[test]
    fn an_error_says_where_and_not_what_stands_there() {
        let line = "url = \"nats://user:hunter2@a";
        let number = "99999999999999999999";
        for (toml, variable, said) in [
            (format!("[nats]\n{line}\n"), None, "line 2, column"),
            ("[nats]\nurl = hunter2".to_owned(), None, "line 2, column 7"),
            (format!("[nats]\nbatch = {number}"), None, "out of range"),
            ("[nats]\nbatch = \"hunter2\"".to_owned(), None, "nats.batch"),
            ("[nats]\ntimeout = \"hunter2\"".to_owned(), None, "nats.timeout"),
            ("nats = \"hunter2, expected nothing\"".to_owned(), None, "expected struct Nats for key `nats`"),
            ("[nats]\nmode = \"hunter2\"".to_owned(), None, "such a variant for key `nats.mode`"),
            ("# none".to_owned(), Some(("FACEWIRE__NATS", "nats://u:hunter2@h")), "invalid type: string, expected"),
            (
                "# none".to_owned(),
                Some(("FACEWIRE__NATS__BATCH", "hunter2")),
                "expected an integer for key `nats.batch`",
            ),
            ("# none".to_owned(), Some(("FACEWIRE__NATS__DURABLE", "hunter2")), "nats.durable"),
        ] {
            let error = from(&toml, variable.as_slice()).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(told.contains(said), "{toml} {variable:?}: {told}");
            assert!(!told.contains("hunter2") && !told.contains(number), "{toml} {variable:?}: {told}");
        }
    }

    #[test]
    fn what_is_none_of_the_names_is_not_said() {
        for (text, said) in [
            ("unknown variant `hunter2`, expected `fast` or `slow`", "unknown variant, expected `fast` or `slow`"),
            ("enum Mode does not have variant constructor hunter2", "enum Mode does not have such a variant"),
            ("invalid value: string \"hunter2\", expected a time", "invalid value: string, expected a time"),
            ("unknown field `urll`, expected `url`", "unknown field `urll`, expected `url`"),
        ] {
            assert_eq!(without_value(text), said);
        }
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
