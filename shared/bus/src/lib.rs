//! facewire-bus
