//! facewire-runtime
