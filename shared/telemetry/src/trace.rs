//! A crop's trace: one span a stage, from the message's arrival until what came of it is stored, connected across services
//! by the W3C context in the messages' headers.

use std::collections::HashMap;
use std::sync::OnceLock;

use facewire_domain::{Reason, Stage, Status};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{Link, Span as _, SpanBuilder, SpanKind, Status as SpanStatus, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, Span};

/// Set on the spans of crops that were rejected or failed: these are exported whatever part of the traces is.
pub(crate) const REFUSED: &str = "facewire.crop.refused";

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// From now on spans are recorded.
pub(crate) fn begin(tracer: SdkTracer) {
    let _ = TRACER.set(tracer);
}

/// What a stage does with one message. Where no traces are exported it only hands the incoming context on. It ends when it is
/// dropped.
#[derive(Debug, Default)]
pub struct CropSpan {
    span: Option<Box<Span>>,
    refused: bool,
    /// As it came, for when there is no span.
    incoming: Option<String>,
}

impl CropSpan {
    /// A message came to `stage` on `subject`, with `incoming` as its `traceparent`, for the `delivered`th time.
    pub fn start(stage: Stage, subject: &str, incoming: Option<&str>, delivered: u64) -> Self {
        let Some(tracer) = TRACER.get() else {
            return Self { incoming: incoming.map(str::to_owned), ..Self::default() };
        };
        let parent = incoming.map(remote).unwrap_or_default();
        let builder =
            SpanBuilder::from_name(format!("process {stage}")).with_kind(SpanKind::Consumer).with_attributes([
                KeyValue::new("messaging.system", "nats"),
                KeyValue::new("messaging.operation.name", "process"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", subject.to_owned()),
                KeyValue::new("messaging.consumer.group.name", stage.as_str()),
                KeyValue::new("facewire.delivered", i64::try_from(delivered).unwrap_or(i64::MAX)),
            ]);
        let span = tracer.build_with_context(builder, &parent);
        Self { span: Some(Box::new(span)), refused: false, incoming: None }
    }

    /// Which crop it is.
    pub fn crop(&mut self, crop: &str, collection: &str, camera: &str) {
        let Some(span) = &mut self.span else { return };
        span.set_attribute(KeyValue::new("facewire.crop.id", crop.to_owned()));
        span.set_attribute(KeyValue::new("facewire.collection", collection.to_owned()));
        span.set_attribute(KeyValue::new("facewire.camera", camera.to_owned()));
    }

    /// The crop ended here, or its ending was read here.
    pub fn ended(&mut self, status: &str, reason: &str) {
        let failed = status == Status::Failed.as_str();
        let refused = failed || status == Status::Rejected.as_str();
        self.refused |= refused;
        let Some(span) = &mut self.span else { return };
        span.set_attribute(KeyValue::new("facewire.crop.status", status.to_owned()));
        if !reason.is_empty() {
            span.set_attribute(KeyValue::new("facewire.crop.reason", reason.to_owned()));
        }
        if refused {
            span.set_attribute(KeyValue::new(REFUSED, true));
        }
        if failed {
            span.set_attribute(KeyValue::new("error.type", reason.to_owned()));
            span.set_status(SpanStatus::error(reason.to_owned()));
        }
    }

    /// The message was given up. `error` is what the log says too.
    pub fn dead(&mut self, reason: Reason, error: &str) {
        self.refused = true;
        let Some(span) = &mut self.span else { return };
        span.set_attribute(KeyValue::new(REFUSED, true));
        span.set_attribute(KeyValue::new("error.type", reason.as_str()));
        span.set_status(SpanStatus::error(error.to_owned()));
    }

    /// The W3C `traceparent` for what comes of the message.
    pub fn traceparent(&self) -> Option<String> {
        let Some(span) = &self.span else { return self.incoming.clone() };
        let context = span.span_context();
        let flags = context.trace_flags().with_sampled(context.is_sampled() || self.refused);
        let flags = flags.to_u8();
        context.is_valid().then(|| format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id()))
    }
}

/// Work that serves many crops at once: a trace of its own that links to theirs.
#[derive(Debug)]
pub struct BatchSpan(Option<Span>);

impl BatchSpan {
    /// Begins now, and ends when it is dropped. Of a batch without any sampled crop there is none.
    pub fn start<'a>(name: &'static str, stage: Stage, crops: impl Iterator<Item = &'a CropSpan>) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let (mut links, mut size) = (Vec::new(), 0_i64);
        for crop in crops {
            size += 1;
            let context = crop.span.as_ref().map(|span| span.span_context()).filter(|context| context.is_sampled());
            links.extend(context.map(|context| Link::with_context(context.clone())));
        }
        if links.is_empty() {
            return Self(None);
        }
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Internal).with_links(links).with_attributes([
            KeyValue::new("messaging.batch.message_count", size),
            KeyValue::new("messaging.consumer.group.name", stage.as_str()),
        ]);
        Self(Some(tracer.build_with_context(builder, &Context::new())))
    }
}

impl Drop for BatchSpan {
    fn drop(&mut self) {
        if let Some(span) = &mut self.0 {
            span.end();
        }
    }
}

/// A context that came from outside; what cannot be read begins a new trace.
fn remote(traceparent: &str) -> Context {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::TraceContextExt as _;

    fn is_continued(traceparent: &str) -> bool {
        remote(traceparent).span().span_context().is_valid()
    }

    #[test]
    fn only_a_sound_context_is_continued() {
        assert!(is_continued("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        for bad in ["", "x", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-0af7-01", "ü"] {
            assert!(!is_continued(bad), "{bad}");
        }
    }

    #[test]
    fn without_export_the_incoming_context_goes_on() {
        let span = CropSpan::start(Stage::Embed, "stage.embed.office", Some("anything"), 1);
        assert_eq!(span.traceparent().as_deref(), Some("anything"));
        assert_eq!(CropSpan::default().traceparent(), None);
    }
}
