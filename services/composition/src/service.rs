//! The table of services: what each is called, what it needs, and how it is started. It is the one place that a new service
//! is added to, beside its options in `config.rs`.

use facewire_domain::Stage;
use facewire_embed_gpu::Embed;
use facewire_enrich::Enrich;
use facewire_gateway::{Gateway, ModelInfo};
use facewire_ingest::Ingest;
use facewire_jobs::Jobs;
use facewire_match::Match;
use facewire_quality::Quality;
use facewire_reconciler::Reconciler;
use facewire_runtime::{Run, Shutdown};

use crate::config::Config;
use crate::parts::Parts;

/// A service that can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// A stage of the chain.
    Stage(Stage),
    /// Makes Postgres and the vector index equal.
    Reconciler,
    /// The REST API.
    Gateway,
    /// Clustering, assignment and prototypes.
    Jobs,
}

/// What a service needs besides NATS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Postgres.
    pub rows: bool,
    /// The vector index.
    pub index: bool,
    /// Models that it runs.
    pub models: bool,
    /// Kept images, where there is a place for them: it writes, reads or erases some.
    pub images: bool,
}

const NOTHING: Needs = Needs { rows: false, index: false, models: false, images: false };
const ROWS: Needs = Needs { rows: true, ..NOTHING };
const MODELS: Needs = Needs { models: true, ..NOTHING };
const ROWS_AND_INDEX: Needs = Needs { rows: true, index: true, ..NOTHING };

type Start = fn(&Config, &Parts, Shutdown) -> anyhow::Result<Run>;

/// A row of the table.
struct Row {
    needs: Needs,
    start: Start,
}

impl Service {
    /// The services that are no stage.
    const OTHERS: [Service; 3] = [Service::Reconciler, Service::Gateway, Service::Jobs];

    /// All, in the order of the chain.
    pub fn all() -> Vec<Service> {
        Stage::ALL.into_iter().map(Service::Stage).chain(Self::OTHERS).collect()
    }

    /// As on the command line, in health and in telemetry.
    pub fn name(self) -> &'static str {
        match self {
            Service::Stage(stage) => stage.service(),
            Service::Reconciler => facewire_reconciler::SERVICE,
            Service::Gateway => facewire_gateway::SERVICE,
            Service::Jobs => facewire_jobs::SERVICE,
        }
    }

    /// The service of this name.
    pub fn named(name: &str) -> Option<Service> {
        Self::all().into_iter().find(|service| service.name() == name)
    }

    /// What it needs besides NATS.
    pub fn needs(self) -> Needs {
        self.row().needs
    }

    /// Starts it with parts that hold what it needs.
    ///
    /// # Errors
    /// A part that it needs is missing.
    pub(crate) fn start(self, config: &Config, parts: &Parts, shutdown: Shutdown) -> anyhow::Result<Run> {
        (self.row().start)(config, parts, shutdown)
    }

    /// The table.
    fn row(self) -> Row {
        let (needs, start): (Needs, Start) = match self {
            Service::Stage(Stage::Ingest) => (Needs { images: true, ..ROWS }, ingest),
            Service::Stage(Stage::Quality) => (Needs { images: true, ..MODELS }, quality),
            Service::Stage(Stage::Embed) => (MODELS, embed),
            Service::Stage(Stage::Match) => (ROWS_AND_INDEX, matching),
            Service::Stage(Stage::Enrich) => (ROWS, enrich),
            Service::Reconciler => (Needs { images: true, ..ROWS_AND_INDEX }, reconciling),
            Service::Gateway => (Needs { images: true, ..ROWS_AND_INDEX }, serving),
            Service::Jobs => (Needs { images: true, ..ROWS_AND_INDEX }, jobs),
        };
        Row { needs, start }
    }
}

fn ingest(config: &Config, parts: &Parts, shutdown: Shutdown) -> anyhow::Result<Run> {
    let service = Ingest {
        bus: parts.bus.clone(),
        store: parts.store()?,
        images: parts.images.clone(),
        options: config.ingest.clone(),
    };
    Ok(service.run(shutdown))
}

fn quality(config: &Config, parts: &Parts, shutdown: Shutdown) -> anyhow::Result<Run> {
    let chain = parts.chain()?;
    let service = Quality {
        bus: parts.bus.clone(),
        images: parts.images.clone(),
        finder: chain.finders,
        model: chain.model,
        score: chain.score.map(|score| score.early),
        options: config.quality.clone(),
    };
    Ok(service.run(shutdown))
}

fn embed(config: &Config, parts: &Parts, shutdown: Shutdown) -> anyhow::Result<Run> {
    let chain = parts.chain()?;
    let service = Embed {
        bus: parts.bus.clone(),
        embedder: chain.embedders,
        model: chain.model,
        max_batch: chain.max_batch,
        score: chain.score,
        gate: config.quality.gate(),
        options: config.embed.clone(),
    };
    Ok(service.run(shutdown))
}

fn matching(config: &Config, parts: &Parts, shutdown: Shutdown) -> anyhow::Result<Run> {
    let index = parts.index()?;
    let service = Match {
        bus: parts.bus.clone(),
        gallery: parts.gallery()?,
        calibration: index.pack.calibration,
        options: config.matching.clone(),
    };
    Ok(service.run(shutdown))
}

fn enrich(config: &Config, parts: &Parts, shutdown: Shutdown) -> anyhow::Result<Run> {
    let service = Enrich { bus: parts.bus.clone(), store: parts.store()?, options: config.enrich.clone() };
    Ok(service.run(shutdown))
}

fn reconciling(config: &Config, parts: &Parts, shutdown: Shutdown) -> anyhow::Result<Run> {
    Ok(reconciler(config, parts)?.run(shutdown))
}

fn serving(config: &Config, parts: &Parts, shutdown: Shutdown) -> anyhow::Result<Run> {
    Ok(gateway(config, parts)?.run(shutdown))
}

fn jobs(config: &Config, parts: &Parts, shutdown: Shutdown) -> anyhow::Result<Run> {
    let service = Jobs {
        bus: parts.bus.clone(),
        gallery: parts.gallery()?,
        rules: config.matching.rules(),
        calibration: parts.index()?.pack.calibration,
        options: config.jobs.clone(),
    };
    Ok(service.run(shutdown))
}

/// The gateway over the configured pack's gallery.
///
/// # Errors
/// Postgres or the vector index is missing in `parts`.
pub fn gateway(config: &Config, parts: &Parts) -> anyhow::Result<Gateway> {
    Ok(Gateway {
        bus: parts.bus.clone(),
        gallery: parts.gallery()?,
        model: ModelInfo {
            pack: config.models.pack.clone(),
            provider: config.models.provider_of(Stage::Embed).to_owned(),
        },
        rules: config.matching.rules(),
        calibration: parts.index()?.pack.calibration,
        gate: config.quality.gate(),
        lease: config.reconciler.lease,
        options: config.gateway.clone(),
    })
}

/// The reconciler against the configured pack, as a service or for one pass.
///
/// # Errors
/// Postgres or the vector index is missing in `parts`.
pub fn reconciler(config: &Config, parts: &Parts) -> anyhow::Result<Reconciler> {
    Ok(Reconciler { bus: parts.bus.clone(), gallery: parts.gallery()?, options: config.reconciler.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_found_by_its_name_alone() {
        for service in Service::all() {
            assert_eq!(Service::named(service.name()), Some(service));
        }
        assert_eq!(Service::named("embed"), None, "the stage's name is not the service's");
    }
}
