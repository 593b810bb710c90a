//! Telemetry of one process against a collector: what is exported, by which way, and what Prometheus reads. Its state is
//! the process's, so each case runs in a process of its own: this test binary, started again.

use std::collections::BTreeMap;
use std::time::Duration;

use facewire_domain::{Quality, Reason, Stage};
use facewire_telemetry::testing::{HeardSpan, Receiver};
use facewire_telemetry::{BatchSpan, CropSpan, Options, Protocol, events, init, prometheus};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// A value that means something else as a part of a URL.
const TOKEN: &str = "Bearer a%20b%";

/// What a stage does with three crops: one passes, one is rejected, one fails.
fn work() -> Vec<String> {
    let mut spans: Vec<CropSpan> =
        (0..3).map(|_| CropSpan::start(Stage::Quality, "stage.quality.office", Some(PARENT), 1)).collect();
    drop(BatchSpan::start("batch", Stage::Quality, spans.iter()));
    for (span, crop) in spans.iter_mut().zip(["a", "b", "c"]) {
        span.crop(crop, "office", "door");
    }
    spans[1].ended("rejected", "low_quality");
    spans[2].dead(Reason::InvalidMessage, "no message");
    events::CropAdmitted { collection: "office", camera: "door" }.emit();
    events::ServiceStarted { service: "quality" }.emit();
    spans.iter().map(|span| span.traceparent().unwrap()).collect()
}

async fn told(protocol: Protocol, sample: f64) {
    let receiver = match protocol {
        Protocol::Grpc => Receiver::grpc().await,
        Protocol::Http => Receiver::http().await,
    };
    let mut options = Options::default();
    options.otlp.endpoint = Some(receiver.url().to_owned());
    options.otlp.protocol = protocol;
    options.otlp.sample = sample;
    options.otlp.timeout = Duration::from_secs(30);
    options.otlp.headers.insert("authorization".to_owned(), facewire_config::Secret::new(TOKEN));
    let telemetry = init(&options, "facewire-quality", false).unwrap();
    let handed_on = work();
    let text = prometheus().unwrap();
    assert!(text.contains(r#"facewire_crops_admitted_total{camera="door",collection="office"} 1"#), "{text}");
    assert!(text.contains("\nprocess_memory_usage_bytes "), "{text}");
    assert!(text.contains(r#"target_info{service_instance_id="#), "{text}");
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await.unwrap();

    let spans: BTreeMap<String, HeardSpan> = receiver
        .spans()
        .into_iter()
        .map(|span| (span.attributes.get("facewire.crop.id").cloned().unwrap_or(span.name.clone()), span))
        .collect();
    assert_eq!(receiver.authorization().as_deref(), Some(TOKEN), "a header arrives as it is");
    let flags: Vec<&str> = handed_on.iter().map(|traceparent| &traceparent[53..]).collect();
    let names: Vec<&str> = spans.keys().map(String::as_str).collect();
    // The producer did not sample, so the part does not matter: what failed is told, and all that comes after it.
    assert_eq!((names, flags), (vec!["b", "c"], vec!["00", "01", "01"]));
    for (crop, traceparent) in [("b", &handed_on[1]), ("c", &handed_on[2])] {
        let span = &spans[crop];
        assert_eq!((span.service.as_str(), span.name.as_str()), ("facewire-quality", "process quality"));
        assert_eq!((span.trace.as_str(), span.parent.as_str()), (&PARENT[3..35], &PARENT[36..52]));
        assert_eq!(span.id, traceparent[36..52]);
        assert_eq!(span.attributes["messaging.destination.name"], "stage.quality.office");
    }
    assert_eq!((spans["b"].error, spans["c"].error), (false, true));
    assert_eq!(spans["b"].attributes["facewire.crop.reason"], "low_quality");
    assert!(receiver.metrics().contains("facewire.crops.admitted"), "{:?}", receiver.metrics());
    let logs = receiver.logs();
    assert!(logs.iter().any(|log| log.body == "service started" && log.attributes["service"] == "quality"), "{logs:?}");
}

/// Every crop of its own trace, all of them wanted.
async fn all_sampled() {
    let receiver = Receiver::grpc().await;
    let mut options = Options::default();
    options.otlp.endpoint = Some(receiver.url().to_owned());
    let telemetry = init(&options, "facewire-embed-gpu", false).unwrap();
    let spans: Vec<CropSpan> = (0..3).map(|_| CropSpan::start(Stage::Embed, "stage.embed.x", None, 1)).collect();
    drop(BatchSpan::start("embed batch", Stage::Embed, spans.iter()));
    drop(spans);
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await.unwrap();
    let (batches, crops): (Vec<_>, Vec<_>) = receiver.spans().into_iter().partition(|span| span.name == "embed batch");
    assert_eq!((batches.len(), crops.len()), (1, 3));
    assert_eq!(batches[0].links, crops.iter().map(|span| span.id.clone()).collect::<Vec<_>>());
    assert_eq!(batches[0].attributes["messaging.batch.message_count"], "3");
}

/// Every camera that metrics tell apart, with every reason: more label sets than the SDK keeps of an instrument by itself.
fn many_endings() {
    let options = Options::default();
    let telemetry = init(&options, "facewire-enrich", false).unwrap();
    let ended = |camera: usize, status: &'static str, reason: Reason| {
        let (camera, reason, stage) = (format!("cam-{camera}"), reason.as_str(), Stage::Quality);
        events::CropEnded { collection: "office", camera: &camera, status, reason, stage }.emit();
    };
    assert!(options.cameras * Reason::ALL.len() > 2_000);
    for camera in 0..options.cameras {
        Reason::ALL.iter().for_each(|reason| ended(camera, "rejected", *reason));
    }
    let last = options.cameras - 1;
    ended(last, "failed", Reason::Internal);
    let labels =
        format!(r#"camera="cam-{last}",collection="office",reason="internal",stage="quality",status="failed""#);
    let series = format!("facewire_crops_ended_total{{{labels}}} 1\n");
    let text = prometheus().unwrap();
    assert!(text.contains(&series), "no {series}");
    assert!(!text.contains("otel_metric_overflow"), "some series lost its labels");
    telemetry.shutdown();
}

/// A face's signals, each by the stage that knows it.
fn signals_of_a_face() {
    let telemetry = init(&Options::default(), "facewire-embed-gpu", false).unwrap();
    let count = |signal: &str| {
        let series = format!("facewire_quality_{signal}_count{{camera=\"door\",collection=\"office\"}} ");
        let text = prometheus().unwrap();
        text.lines().find_map(|line| line.strip_prefix(&series)).map(str::to_owned)
    };
    let (collection, camera) = ("office", "door");
    let early = Quality { blur: 80.0, score: 0.4, ..Quality::default() };
    events::FaceMeasured { collection, camera, quality: &early }.emit();
    assert_eq!(["blur", "embedding_length", "score"].map(count), [Some("1".to_owned()), None, None]);
    let last = Quality { embedding_length: 7.0, score: 0.9, ..early };
    events::FaceJudged { collection, camera, quality: &last }.emit();
    assert_eq!(["blur", "embedding_length", "score"].map(count), ["1", "1", "1"].map(|n| Some(n.to_owned())));
    telemetry.shutdown();
}

/// Runs a case here if this is the process made for it; else makes that process.
fn alone(case: &'static str, run: impl FnOnce(&tokio::runtime::Runtime)) {
    const ALONE: &str = "FACEWIRE_TEST_ALONE";
    if std::env::var(ALONE).is_ok_and(|name| name == case) {
        return run(&tokio::runtime::Runtime::new().unwrap());
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", case, "--nocapture"]).env(ALONE, case).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn grpc_keeps_what_failed() {
    alone("export::grpc_keeps_what_failed", |runtime| runtime.block_on(told(Protocol::Grpc, 0.0)));
}

#[test]
fn http_keeps_what_failed() {
    alone("export::http_keeps_what_failed", |runtime| runtime.block_on(told(Protocol::Http, 1.0)));
}

#[test]
fn a_batch_links_to_its_crops() {
    alone("export::a_batch_links_to_its_crops", |runtime| runtime.block_on(all_sampled()));
}

#[test]
fn a_failed_crop_is_found_by_its_labels_among_thousands() {
    alone("export::a_failed_crop_is_found_by_its_labels_among_thousands", |runtime| {
        let _inside = runtime.enter();
        many_endings();
    });
}

#[test]
fn a_signal_is_counted_when_it_is_known() {
    alone("export::a_signal_is_counted_when_it_is_known", |runtime| {
        let _inside = runtime.enter();
        signals_of_a_face();
    });
}

#[test]
fn what_cannot_be_exported_to_is_an_error_that_names_the_setting() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let refused = |change: &dyn Fn(&mut Options)| {
        let mut options = Options::default();
        options.otlp.endpoint = Some("http://collector:4317".to_owned());
        change(&mut options);
        init(&options, "facewire", false).unwrap_err().to_string()
    };
    let endpoint = |url: &str| Some(url.to_owned());
    assert!(refused(&|o| o.otlp.endpoint = endpoint("collector:4317")).contains("telemetry.otlp.endpoint"));
    assert!(refused(&|o| o.otlp.endpoint = endpoint("https://collector:4317")).contains("telemetry.otlp.ca"));
    assert!(refused(&|o| o.otlp.ca = Some("ca.crt".into())).contains("telemetry.otlp.ca"));
    assert!(
        refused(&|o| (o.otlp.ca, o.otlp.protocol) = (Some("ca.crt".into()), Protocol::Http))
            .contains("telemetry.otlp.ca")
    );
    assert!(refused(&|o| o.otlp.metrics_interval = Duration::ZERO).contains("telemetry.otlp.metrics_interval"));
    assert!(refused(&|o| o.otlp.timeout = Duration::ZERO).contains("telemetry.otlp.timeout"));
    assert!(refused(&|o| o.otlp.sample = 1.5).contains("telemetry.otlp.sample"));
    assert!(refused(&|o| o.filter = "a=b=c".to_owned()).contains("telemetry.filter"));
    for protocol in [Protocol::Grpc, Protocol::Http] {
        for (name, value) in [("a b", "hunter2"), ("authorization", "two\nlines")] {
            let said = refused(&|o| {
                o.otlp.protocol = protocol;
                o.otlp.headers.insert(name.to_owned(), facewire_config::Secret::new(value));
            });
            assert!(said.contains("telemetry.otlp.headers") && !said.contains(value), "{said}");
        }
    }
}
