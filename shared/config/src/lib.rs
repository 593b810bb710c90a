//! facewire-config
