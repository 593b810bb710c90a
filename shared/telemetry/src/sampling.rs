//! Which spans are exported: a part of all traces, every trace that its producer sampled, and each stage at which a crop was
//! refused, however small the part.

use std::time::Duration;

use opentelemetry::trace::{Link, SpanContext, SpanKind, TraceContextExt as _, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SamplingDecision, SamplingResult, ShouldSample, Span, SpanData, SpanProcessor,
};

use crate::trace::REFUSED;

/// A part of the traces; the others are recorded all the same, since whether a crop fails is known only at its end.
#[derive(Debug, Clone)]
pub(crate) struct Part(Sampler);

impl Part {
    /// `part`: 0 to 1.
    pub(crate) fn new(part: f64) -> Self {
        Self(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(part))))
    }
}

impl ShouldSample for Part {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let mut result = self.0.should_sample(parent, trace, name, kind, attributes, links);
        let alone = !parent.is_some_and(|parent| parent.span().span_context().is_valid());
        if alone && links.iter().any(|link| link.span_context.is_sampled()) {
            // A batch is told wherever one of its crops is.
            result.decision = SamplingDecision::RecordAndSample;
        } else if result.decision == SamplingDecision::Drop {
            result.decision = SamplingDecision::RecordOnly;
        }
        result
    }
}

/// Hands refused crops' spans on as if they had been sampled.
#[derive(Debug)]
pub(crate) struct KeepRefused<P>(pub(crate) P);

impl<P: SpanProcessor> SpanProcessor for KeepRefused<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.0.on_start(span, context);
    }

    fn on_end(&self, mut span: SpanData) {
        if !span.span_context.is_sampled() {
            if !span.attributes.iter().any(|attribute| attribute.key.as_str() == REFUSED) {
                return;
            }
            let old = &span.span_context;
            let flags = old.trace_flags().with_sampled(true);
            span.span_context =
                SpanContext::new(old.trace_id(), old.span_id(), flags, old.is_remote(), old.trace_state().clone());
        }
        self.0.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}
