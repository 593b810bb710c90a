//! The commands, a file each, and what they share: the configuration with the named or running servers in it.

#[cfg(feature = "local")]
mod bench;
mod calibrate;
mod cameras;
mod connect;
mod dead;
#[cfg(feature = "local")]
mod demo;
mod doctor;
mod enroll;
mod evaluate;
mod faces;
mod failures;
mod format;
mod gates;
mod health;
mod jobs;
mod keys;
mod migrate;
mod models;
mod nats_config;
mod people;
mod producer;
mod progress;
mod publish;
mod receipt;
mod reembed;
mod resume;
pub(crate) mod run;
#[cfg(feature = "local")]
mod scratch;
mod spoil;
mod stats;
#[cfg(feature = "local")]
mod stopped;
#[cfg(feature = "local")]
mod up;
mod watch;
mod why;

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Context;
use facewire_artifacts::default_data_dir;
use facewire_composition::Config;
use facewire_config::Secret;

#[cfg(feature = "local")]
use stopped::read;

use crate::cli::{Cli, Command, Place};
use crate::endpoints::Endpoints;
use crate::output::{self, Exit};
use crate::urls::without_users;

/// Runs what the command line asks for.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<Exit> {
    let config = Config::load(cli.config.as_deref())?;
    let options = quiet_unless_serving(&config, &cli.command);
    let telemetry = facewire_telemetry::init(&options, &service_name(&cli.command), std::io::stderr().is_terminal())?;
    let done = carry_out(config, cli.place, cli.command).await;
    // What it has left to export may block; whatever becomes of that, the command's own end counts.
    let _ = tokio::task::spawn_blocking(|| telemetry.shutdown()).await;
    done
}

async fn carry_out(config: Config, place: Place, command: Command) -> anyhow::Result<Exit> {
    match command {
        #[cfg(feature = "local")]
        Command::Up(args) => up::run(config, &place, &args).await,
        Command::Run(args) => run::run(config, &place, &args).await,
        Command::Migrate(args) => migrate::run(client(config, &place)?, &args).await,
        #[cfg(feature = "local")]
        Command::Demo(args) => demo::run(config, &place, &args).await,
        Command::Enroll(args) => enroll::run(client(config, &place)?, &args).await,
        Command::Publish(args) => publish::run(client(config, &place)?, &args).await,
        Command::Watch(args) => watch::run(client(config, &place)?, &args).await,
        Command::Why(args) => read(client(config, &place)?, &place, |config| why::run(config, args)).await,
        Command::Cameras(args) => read(client(config, &place)?, &place, |config| cameras::run(config, args)).await,
        Command::Failures(args) => read(client(config, &place)?, &place, |config| failures::run(config, args)).await,
        Command::Stats(args) => stats::run(client(config, &place)?, &args).await,
        Command::Dead(args) => dead::run(client(config, &place)?, &args.command).await,
        Command::Faces(args) => faces::run(client(config, &place)?, &args.command).await,
        Command::Jobs(args) => jobs::run(client(config, &place)?, &args).await,
        Command::Rebuild(args) => faces::rebuild(client(config, &place)?, &args).await,
        Command::Reembed(args) => reembed::run(client(config, &place)?, &args).await,
        Command::People(args) => people::run(client(config, &place)?, &args).await,
        Command::Keys(args) => keys::run(client(config, &place)?, &args).await,
        Command::NatsConfig(args) => nats_config::run(&config, &args),
        Command::Doctor(args) => doctor::run(&config, &place, &args).await,
        Command::Health(args) => health::run(&config, &args).await,
        Command::Models(args) => models::run(&config, &args.command).await,
        Command::Evaluate(args) => evaluate::run(config, *args).await,
        Command::Calibrate(args) => calibrate::run(client(config, &place)?, *args).await,
        #[cfg(feature = "local")]
        Command::Bench(args) => bench::run(config, &args).await,
        Command::Config => {
            output::line(toml::to_string_pretty(&without_secrets(client(config, &place)?))?);
            Ok(Exit::Success)
        }
    }
}

/// Services log their life; the commands that people type speak for themselves, and log only trouble.
fn quiet_unless_serving(config: &Config, command: &Command) -> facewire_telemetry::Options {
    let mut options = config.telemetry.clone();
    let untouched = options.filter == facewire_telemetry::Options::default().filter;
    if serves(command) {
        return options;
    }
    // Nobody watches a command's metrics, and it should end when its work does.
    options.otlp.endpoint = None;
    if untouched {
        options.filter = "warn,ort=error,async_nats=error,qdrant_edge=error".to_owned();
    }
    options
}

fn serves(command: &Command) -> bool {
    match command {
        #[cfg(feature = "local")]
        Command::Up(_) => true,
        Command::Run(_) => true,
        _ => false,
    }
}

/// Runs a command that reads Postgres; a build without the local stack has no stopped one to read from.
#[cfg(not(feature = "local"))]
async fn read<F>(config: Config, _place: &Place, command: impl FnOnce(Config) -> F) -> anyhow::Result<Exit>
where
    F: Future<Output = anyhow::Result<Exit>>,
{
    command(config).await
}

/// The process's name in telemetry: the service's where it runs one alone.
fn service_name(command: &Command) -> String {
    match command {
        Command::Run(args) if args.services.len() == 1 => {
            args.services.first().map_or_else(String::new, |service| format!("facewire-{service}"))
        }
        _ => "facewire".to_owned(),
    }
}

/// The data directory of the local stack.
pub(crate) fn data_dir(place: &Place) -> anyhow::Result<PathBuf> {
    place.data.clone().or_else(default_data_dir).context("no data directory can be found: name one with --data DIR")
}

/// For commands that talk to a running Facewire: URLs of the command line, else those of the configuration where it names any, else
/// those that a running `up` noted.
fn client(mut config: Config, place: &Place) -> anyhow::Result<Config> {
    let (nats, postgres, qdrant, images) = match noted(&config, place) {
        Some(noted) => {
            // They belong to the noted Postgres, and beside another they would be nobody's.
            let is_used = place.postgres.as_ref().is_none_or(|url| *url == noted.postgres);
            (Some(noted.nats), Some(noted.postgres), Some(noted.qdrant), noted.images.filter(|_| is_used))
        }
        None => (None, None, None, None),
    };
    config.images.url = config.images.url.or(images);
    if let Some(url) = place.nats.clone().or(nats) {
        config.nats.url = Secret::new(url);
    }
    if let Some(url) = place.postgres.clone().or(postgres) {
        config.postgres.url = Secret::new(url);
    }
    if let Some(url) = place.qdrant.clone().or(qdrant) {
        config.qdrant.url = url;
    }
    Ok(config)
}

/// The configuration to be shown. Secrets hide themselves; what may lie in these URLs does not.
fn without_secrets(mut config: Config) -> Config {
    config.qdrant.url = without_users(&config.qdrant.url);
    config.telemetry.otlp.endpoint = config.telemetry.otlp.endpoint.as_deref().map(without_users);
    config
}

/// What a running `up` noted, unless the configuration names other servers than those. All or none: an operator's database
/// beside a local NATS would be nobody's Facewire, but where `up` runs with it.
fn noted(config: &Config, place: &Place) -> Option<Endpoints> {
    let noted = data_dir(place).ok().and_then(|dir| Endpoints::read(&dir))?;
    let same = [&noted.nats, &noted.postgres, &noted.qdrant];
    let no_other = configured(config).iter().zip(same).all(|(url, noted)| url.as_ref().is_none_or(|url| url == noted));
    no_other.then_some(noted)
}

/// The URLs of NATS, Postgres and Qdrant that the configuration names: those that are not the default ones.
fn configured(config: &Config) -> [Option<String>; 3] {
    let urls = |config: &Config| {
        let [nats, postgres] = [&config.nats.url, &config.postgres.url].map(|url| url.expose().to_owned());
        [nats, postgres, config.qdrant.url.clone()]
    };
    let mut usual = urls(&Config::default()).into_iter();
    urls(config).map(|url| Some(url).filter(|url| usual.next().as_ref() != Some(url)))
}

#[cfg(all(test, feature = "local"))]
mod tests {
    use super::*;
    use crate::endpoints::STACK_LOCK;

    #[test]
    fn the_configuration_is_shown_without_secrets() {
        let mut config = Config::default();
        config.nats.url = Secret::new("nats://ada:hunter1@nats");
        config.postgres.url = Secret::new("postgres://ada:hunter2@postgres");
        config.qdrant.url = "https://ada:hunter3@qdrant:6334".to_owned();
        config.telemetry.otlp.endpoint = Some("http://ada:hunter4@collector:4317".to_owned());
        let shown = toml::to_string_pretty(&without_secrets(config)).unwrap();
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(shown.contains("https://qdrant:6334") && shown.contains("http://collector:4317"), "{shown}");
    }

    #[test]
    fn a_noted_stack_stands_behind_the_configuration_and_the_command_line() {
        let directory = tempfile::tempdir().unwrap();
        let [nats, postgres, qdrant] = ["nats://local", "postgres://local", "http://local"].map(str::to_owned);
        let images = Some("/local/images".to_owned());
        let _noted = Endpoints { nats, postgres, qdrant, http: None, images }.note(directory.path()).unwrap();
        let stack = std::fs::File::create(directory.path().join(STACK_LOCK)).unwrap();
        stack.lock().unwrap();
        let place = |nats: Option<&str>| Place {
            data: Some(directory.path().to_owned()),
            nats: nats.map(str::to_owned),
            postgres: None,
            qdrant: None,
        };
        let urls = |config: Config, place: &Place| {
            let config = client(config, place).unwrap();
            [config.nats.url.expose().to_owned(), config.postgres.url.expose().to_owned(), config.qdrant.url]
        };
        let own = Config::default();
        let mut operators = own.clone();
        operators.postgres.url = Secret::new("postgres://operator".to_owned());
        assert_eq!(urls(own.clone(), &place(None)), ["nats://local", "postgres://local", "http://local"]);
        assert_eq!(urls(own.clone(), &place(Some("nats://x")))[..2], ["nats://x", "postgres://local"]);
        let named = urls(operators, &place(None));
        assert_eq!(named, [own.nats.url.expose(), "postgres://operator", &own.qdrant.url]);
        // `up` runs with the server that is configured.
        let mut same = own.clone();
        same.postgres.url = Secret::new("postgres://local");
        assert_eq!(urls(same.clone(), &place(None)), ["nats://local", "postgres://local", "http://local"]);

        // The noted images are those of the noted Postgres.
        let images = |config: &Config, postgres: Option<&str>| {
            let place = Place { postgres: postgres.map(str::to_owned), ..place(None) };
            client(config.clone(), &place).unwrap().images.url
        };
        let mut elsewhere = own.clone();
        elsewhere.images.url = Some("s3://faces".to_owned());
        assert_eq!(images(&own, None).as_deref(), Some("/local/images"));
        assert_eq!(images(&same, Some("postgres://local")).as_deref(), Some("/local/images"));
        assert_eq!(images(&own, Some("postgres://other")), None);
        assert_eq!(images(&elsewhere, None).as_deref(), Some("s3://faces"));
    }
}
