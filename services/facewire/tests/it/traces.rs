//! One trace a crop, across processes: a span of each stage that the crop passed, each the child of the one before.

use std::collections::{BTreeMap, BTreeSet};

use facewire_domain::Stage;
use facewire_telemetry::testing::HeardSpan;

use crate::deployment::{Deployment, four_crops};

/// A producer's own span: the chain's first is its child.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Spans of one crop from the first to the last, each the parent of the next.
fn chain<'a>(spans: &'a [HeardSpan], crop: &str) -> Vec<&'a HeardSpan> {
    let own: BTreeMap<&str, &HeardSpan> = spans
        .iter()
        .filter(|span| span.attributes.get("facewire.crop.id").is_some_and(|id| id == crop))
        .map(|span| (span.parent.as_str(), span))
        .collect();
    let mut chain = Vec::new();
    let mut parent = PARENT;
    while let Some(span) = own.get(parent) {
        chain.push(*span);
        parent = &span.id;
    }
    assert_eq!(chain.len(), own.len(), "every span of the crop is connected: {own:?}");
    chain
}

#[tokio::test]
async fn a_crop_is_one_trace_through_every_service() {
    let mut deployment = Deployment::start().await;
    let results = four_crops(&mut deployment, &format!("00-{TRACE}-{PARENT}-01")).await;
    let ends: Vec<&str> = results.iter().map(|result| result.status.as_str()).collect();
    assert_eq!(ends, ["enrolled", "matched", "no_match", "rejected"]);
    deployment.finish().await;

    let spans = deployment.collector.spans();
    for result in &results[..3] {
        let chain = chain(&spans, &result.crop_id);
        let names: Vec<&str> = chain.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["process ingest", "process quality", "process embed", "process match", "process enrich"]);
        let services: Vec<String> = chain.iter().map(|span| span.service.clone()).collect();
        assert_eq!(
            services,
            crate::deployment::names()
                .take(Stage::ALL.len())
                .map(|name| format!("facewire-{name}"))
                .collect::<Vec<_>>()
        );
        assert!(chain.iter().all(|span| span.trace == TRACE && !span.error));
        let last = chain[4];
        assert_eq!(last.attributes["facewire.crop.status"], result.status);
        assert_eq!(last.attributes["facewire.camera"], result.camera);
    }
    let rejected = chain(&spans, &results[3].crop_id);
    let names: Vec<&str> = rejected.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["process ingest", "process quality", "process enrich"]);
    for span in &rejected[1..] {
        assert_eq!(span.attributes["facewire.crop.status"], "rejected");
        assert_eq!(Some(&span.attributes["facewire.crop.reason"]), results[3].failure_reason.as_ref());
    }
    // The batch of each service that works in batches links to the crops in it.
    for name in ["admit batch", "embed batch", "match batch", "record batch"] {
        let linked: BTreeSet<&str> =
            spans.iter().filter(|span| span.name == name).flat_map(|span| &span.links).map(String::as_str).collect();
        let stage = spans.iter().filter(|span| linked.contains(span.id.as_str())).count();
        assert!(stage >= 3, "{name} links to {stage} spans");
    }
    nothing_biometric(&deployment, &spans);
}

/// Nobody who reads telemetry learns who was seen: no name, no id of a person, no face, nothing of an image.
fn nothing_biometric(deployment: &Deployment, spans: &[HeardSpan]) {
    let told = spans.iter().flat_map(|span| &span.attributes);
    let logs = deployment.collector.logs();
    for (key, value) in told.chain(logs.iter().flat_map(|log| &log.attributes)) {
        let fault = ["person", "external_id", "face_id", "embedding", "similarity", "image"]
            .iter()
            .find(|word| key.contains(**word));
        assert!(fault.is_none() && !value.contains("Seven"), "{key} = {value}");
    }
    assert!(logs.iter().any(|log| log.body == "service started"), "logs came too");
    assert!(logs.iter().all(|log| !log.body.contains("Seven")));
    assert!(deployment.collector.metrics().contains("facewire.crops.ended"), "metrics came too");
}
