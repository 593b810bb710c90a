//! Starts logs, metrics and traces of this process, and flushes them at its end.

use std::sync::OnceLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{Instrument, PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};
use prometheus::{Encoder as _, TextEncoder};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::options::{LogFormat, Options};
use crate::otlp::Collector;
use crate::sampling::{KeepRefused, Part};
use crate::{cardinality, metrics, trace};

/// What an exporter says while it exports must not be exported: it would never end.
const QUIET: &str = "opentelemetry=off,opentelemetry_sdk=off,opentelemetry_otlp=off,opentelemetry_http=off,\
                     hyper=off,hyper_util=off,tonic=off,h2=off,tower=off";

static REGISTRY: OnceLock<prometheus::Registry> = OnceLock::new();

/// Telemetry that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The directives cannot be read.
    #[error("telemetry.filter is not a list of tracing directives: {0}")]
    Filter(String),
    /// Somebody else set a subscriber in this process.
    #[error("logging was started twice in this process")]
    Twice,
    /// No URL.
    #[error("telemetry.otlp.endpoint is not http://HOST:PORT or https://HOST:PORT")]
    Endpoint,
    /// HTTP with TLS is not built in.
    #[error(
        "telemetry.otlp.endpoint: https needs protocol = \"grpc\"; or send plain HTTP to a collector beside the service"
    )]
    HttpsOverHttp,
    /// The authority's certificate.
    #[error(
        "telemetry.otlp.ca: https needs the PEM file of the authority that signed the collector's certificate: {0}"
    )]
    Authority(String),
    /// An authority, and no TLS.
    #[error(
        "telemetry.otlp.ca is set, but telemetry.otlp.endpoint is not https://: everything would travel in clear text"
    )]
    NoTls,
    /// A header.
    #[error("telemetry.otlp.headers: {0} is no header, or has no value that can be one")]
    Header(String),
    /// Out of its range.
    #[error("telemetry.otlp.sample must be from 0 to 1")]
    Sample,
    /// Nothing can happen in no time.
    #[error("telemetry.otlp.{0} must be longer than zero")]
    Zero(&'static str),
    /// The library would not build an exporter.
    #[error("the exporter of {signal} cannot be built: {error}")]
    Exporter {
        /// Traces, metrics or logs.
        signal: &'static str,
        /// Why.
        error: String,
    },
}

/// What runs in this process, until [`Telemetry::shutdown`].
#[derive(Debug)]
pub struct Telemetry {
    tracers: Option<SdkTracerProvider>,
    meters: SdkMeterProvider,
    loggers: Option<SdkLoggerProvider>,
}

/// Starts telemetry for this process. `service` is its `service.name`; `ansi` allows colours: pass whether standard error is
/// a terminal. Must be called on the async runtime.
pub fn init(options: &Options, service: &str, ansi: bool) -> Result<Telemetry, TelemetryError> {
    if !(0.0..=1.0).contains(&options.otlp.sample) {
        return Err(TelemetryError::Sample);
    }
    let otlp = &options.otlp;
    // The library would take a time of its own in place of either.
    let times = [("timeout", otlp.timeout), ("metrics_interval", otlp.metrics_interval)];
    if let Some((option, _)) = times.into_iter().find(|(_, time)| time.is_zero()) {
        return Err(TelemetryError::Zero(option));
    }
    let collector = otlp.endpoint.as_ref().map(|endpoint| Collector::new(otlp, endpoint)).transpose()?;
    let collector = collector.as_ref();
    let resource = resource(service);
    let loggers = collector.filter(|_| otlp.logs).map(|to| logs(to, &resource)).transpose()?;
    subscribe(options, loggers.as_ref(), ansi)?;
    let tracers = collector.filter(|_| otlp.traces).map(|to| traces(to, &resource, otlp.sample)).transpose()?;
    let meters = meters(collector.filter(|_| otlp.metrics), options, resource)?;
    Ok(Telemetry { tracers, meters, loggers })
}

impl Telemetry {
    /// Exports what is left. Blocks for some seconds where the collector does not answer.
    pub fn shutdown(self) {
        // Nobody is left to be told of a failure.
        let _ = self.tracers.map(|tracers| tracers.shutdown());
        let _ = self.meters.shutdown();
        let _ = self.loggers.map(|loggers| loggers.shutdown());
    }
}

/// Metrics of this process in Prometheus' text format; empty before [`init`].
pub fn prometheus() -> Result<String, prometheus::Error> {
    let Some(registry) = REGISTRY.get() else { return Ok(String::new()) };
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The content type of [`prometheus()`].
pub const PROMETHEUS_TYPE: &str = prometheus::TEXT_FORMAT;

fn resource(service: &str) -> Resource {
    Resource::builder()
        .with_service_name(service.to_owned())
        .with_attribute(KeyValue::new("service.namespace", "facewire"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()))
        .build()
}

fn built<T>(
    signal: &'static str,
    exporter: Result<T, opentelemetry_otlp::ExporterBuildError>,
) -> Result<T, TelemetryError> {
    exporter.map_err(|error| TelemetryError::Exporter { signal, error: error.to_string() })
}

fn logs(to: &Collector, resource: &Resource) -> Result<SdkLoggerProvider, TelemetryError> {
    let exporter = built("logs", to.logs())?;
    Ok(SdkLoggerProvider::builder().with_resource(resource.clone()).with_batch_exporter(exporter).build())
}

fn traces(to: &Collector, resource: &Resource, part: f64) -> Result<SdkTracerProvider, TelemetryError> {
    let batches = BatchSpanProcessor::builder(built("traces", to.spans())?).build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_sampler(Part::new(part))
        .with_span_processor(KeepRefused(batches))
        .build();
    trace::begin(provider.tracer("facewire"));
    Ok(provider)
}

fn meters(to: Option<&Collector>, options: &Options, resource: Resource) -> Result<SdkMeterProvider, TelemetryError> {
    let registry = prometheus::Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).scope_info_enabled(false);
    let scraped = exporter
        .build()
        .map_err(|error| TelemetryError::Exporter { signal: "metrics for Prometheus", error: error.to_string() })?;
    let cameras = options.cameras;
    let mut builder = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_reader(scraped)
        .with_view(move |instrument: &Instrument| cardinality::view(instrument, cameras));
    if let Some(to) = to {
        let pushed = PeriodicReader::builder(built("metrics", to.metrics())?);
        builder = builder.with_reader(pushed.with_interval(options.otlp.metrics_interval).build());
    }
    let provider = builder.build();
    metrics::begin(&provider.meter("facewire"), cameras);
    let _ = REGISTRY.set(registry);
    Ok(provider)
}

fn subscribe(options: &Options, loggers: Option<&SdkLoggerProvider>, ansi: bool) -> Result<(), TelemetryError> {
    let filter = |text: &str| EnvFilter::try_new(text).map_err(|error| TelemetryError::Filter(error.to_string()));
    let fmt = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let told = match options.format {
        LogFormat::Human => fmt.with_ansi(ansi).with_target(false).boxed(),
        LogFormat::Json => fmt.json().flatten_event(true).boxed(),
    };
    let exported = match loggers {
        Some(loggers) => {
            let quiet = filter(&format!("{},{QUIET}", options.filter))?;
            Some(OpenTelemetryTracingBridge::new(loggers).with_filter(quiet))
        }
        None => None,
    };
    tracing_subscriber::registry()
        .with(told.with_filter(filter(&options.filter)?))
        .with(exported)
        .try_init()
        .map_err(|_| TelemetryError::Twice)
}
