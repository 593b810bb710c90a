//! Telemetry of a process as others see it: a collector and Prometheus.

#[cfg(test)]
mod export;
