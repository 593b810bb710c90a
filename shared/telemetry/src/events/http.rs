//! What is asked over HTTP, and what is refused.

use std::time::Duration;

use opentelemetry::KeyValue;

use crate::metrics::record;

/// A request was answered.
#[derive(Debug)]
pub struct RequestAnswered<'a> {
    /// `GET`, … or `_OTHER`: of a closed list, for clients may make up methods.
    pub method: &'static str,
    /// The route's template, never a path: ids are no labels.
    pub route: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// From its headers to those of its answer.
    pub took: Duration,
}

impl RequestAnswered<'_> {
    /// Emits the log line and the metric.
    pub fn emit(&self) {
        let seconds = self.took.as_secs_f64();
        record(|m| {
            let labels = [
                KeyValue::new("http.request.method", self.method),
                KeyValue::new("http.route", self.route.to_owned()),
                KeyValue::new("http.response.status_code", i64::from(self.status)),
            ];
            m.requests.record(seconds, &labels);
        });
        tracing::debug!(method = self.method, route = self.route, status = self.status, seconds, "request answered");
    }
}

/// A request was refused, or failed.
#[derive(Debug)]
pub struct RequestRefused {
    /// The error's code, of a closed list.
    pub code: &'static str,
}

impl RequestRefused {
    /// Emits the log line and the metric.
    pub fn emit(&self) {
        record(|m| m.refusals.add(1, &[KeyValue::new("code", self.code)]));
        tracing::debug!(code = self.code, "request refused");
    }
}

/// How an attempt to tell a webhook ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The receiver has it.
    Delivered,
    /// It will be tried again.
    Failed,
    /// It was given up.
    GivenUp,
}

/// An attempt to tell a webhook ended.
#[derive(Debug)]
pub struct WebhookTold<'a> {
    /// How.
    pub told: Told,
    /// Why it failed.
    pub error: Option<&'a str>,
}

impl WebhookTold<'_> {
    /// Emits the log line and the metric.
    pub fn emit(&self) {
        let told = match self.told {
            Told::Delivered => "delivered",
            Told::Failed => "failed",
            Told::GivenUp => "given_up",
        };
        record(|m| m.deliveries.add(1, &[KeyValue::new("outcome", told)]));
        match self.told {
            Told::GivenUp => tracing::warn!(error = self.error, "a delivery to a webhook was given up"),
            Told::Delivered | Told::Failed => tracing::debug!(told, error = self.error, "a webhook was told"),
        }
    }
}
