//! facewire-embed-gpu
