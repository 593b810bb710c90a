//! facewire-store-vec
