//! The stage list. It exists once: subjects, streams, consumers, tables and help texts are all made from it.

use serde::{Deserialize, Serialize};

/// A stage of the chain, in the order in which a crop passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Validation, hash, ids, the `crops` row.
    Ingest,
    /// Decode, detection, alignment, the gate.
    Quality,
    /// Aligned face to embedding (the service is called `embed-gpu`).
    Embed,
    /// Search, threshold, enrolment.
    Match,
    /// The terminal row and the result, for every ending.
    Enrich,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 5] = [Stage::Ingest, Stage::Quality, Stage::Embed, Stage::Match, Stage::Enrich];

    /// The name in subjects, results, rows and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Ingest => "ingest",
            Stage::Quality => "quality",
            Stage::Embed => "embed",
            Stage::Match => "match",
            Stage::Enrich => "enrich",
        }
    }

    /// The service (process, deployment) that runs the stage.
    pub const fn service(self) -> &'static str {
        match self {
            Stage::Embed => "embed-gpu",
            other => other.as_str(),
        }
    }

    /// The JetStream stream that the stage consumes.
    pub fn stream(self) -> &'static str {
        match self {
            Stage::Ingest => "CROPS",
            Stage::Quality => "QUALITY",
            Stage::Embed => "EMBED",
            Stage::Match => "MATCH",
            Stage::Enrich => "ENRICH",
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Stage {
    type Err = UnknownStage;
    fn from_str(s: &str) -> Result<Self, UnknownStage> {
        Stage::ALL.into_iter().find(|stage| stage.as_str() == s || stage.service() == s).ok_or(UnknownStage)
    }
}

/// No stage has that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such stage; the stages are ingest, quality, embed, match, enrich")]
pub struct UnknownStage;
