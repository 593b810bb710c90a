//! facewire-telemetry
