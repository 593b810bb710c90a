//! facewire-quality
