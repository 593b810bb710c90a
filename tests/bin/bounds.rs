//! How many messages each service can hold unacked, from its options alone: DESIGN §8's credit chain as a number. What is
//! common to all stages is [`facewire_bus::StageOptions::most_in_flight`]; what is added here are the workers of each.
//! `tests/it/deploy` takes this file too: all replicas of a stage together stay within its consumer's limit.

use std::collections::BTreeMap;

use facewire_composition::Config;
use facewire_domain::Stage;

/// For one instance of each stage with these options, where a run of the embedder takes so many faces.
pub(crate) fn most_in_flight(config: &Config, faces_per_run: usize) -> BTreeMap<Stage, u64> {
    let Config { ingest, quality, embed, matching, enrich, .. } = config;
    // A crop on each thread, the inbox before the rows, and the batch of rows that is being written.
    let examined = ingest.threads.max(1) + ingest.stage.inbox.max(1) + ingest.batch;
    // A picture on each thread.
    let judged = quality.threads.max(1);
    // A batch that gathers, one that waits, and one on each thread.
    let batch = embed.batch.min(faces_per_run).max(1);
    let embedded = batch * (2 + embed.threads());
    // The batch that is being searched, the inbox before the enrolments, and the batch that is being enrolled.
    let matched = 2 * matching.batch + matching.stage.inbox.max(1);
    let bounds = [
        (Stage::Ingest, ingest.stage.most_in_flight(examined)),
        (Stage::Quality, quality.stage.most_in_flight(judged)),
        (Stage::Embed, embed.stage.most_in_flight(embedded)),
        (Stage::Match, matching.stage.most_in_flight(matched)),
        // A batch that is being recorded, one that waits, and one that is being published.
        (Stage::Enrich, enrich.stage.most_in_flight(enrich.batch * 3)),
    ];
    bounds.into_iter().map(|(stage, bound)| (stage, bound as u64)).collect()
}
