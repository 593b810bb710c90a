//! What the rendered chart says of the program, as `tests/deploy/facts.py` writes it. What the code says may not come in.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Everything of one values file.
#[derive(Debug, Deserialize)]
pub(crate) struct Facts {
    /// `facewire.toml`.
    pub(crate) toml: String,
    pub(crate) pods: Vec<Pod>,
    pub(crate) scaling: Vec<Scaling>,
}

/// A pod of a Deployment, of the migration, or of `helm test`.
#[derive(Debug, Deserialize)]
pub(crate) struct Pod {
    /// `Deployment`, `Job` or `Pod`.
    pub(crate) kind: String,
    pub(crate) service: String,
    pub(crate) args: Vec<String>,
    /// What comes from a secret has a value that stands for it.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) ports: BTreeMap<String, u16>,
    /// The path of each probe.
    pub(crate) probes: BTreeMap<String, String>,
    /// Paths of volumes.
    pub(crate) mounts: Vec<String>,
    /// Processors that it may use, whole ones.
    pub(crate) cores: usize,
    /// Seconds until it is killed.
    pub(crate) grace: Option<u64>,
}

/// How a stage follows its queue.
#[derive(Debug, Deserialize)]
pub(crate) struct Scaling {
    pub(crate) service: String,
    /// Replicas at most.
    pub(crate) max: u64,
    /// The trigger's type.
    #[serde(rename = "type")]
    pub(crate) trigger: String,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Facts {
    /// The pods of services.
    pub(crate) fn deployments(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|pod| pod.kind == "Deployment")
    }
}
