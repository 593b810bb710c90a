//! facewire-inference
