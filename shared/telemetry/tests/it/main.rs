//! Telemetry of a process as others see it: a collector and Prometheus. What services tell must not come in.

#[cfg(test)]
mod export;
