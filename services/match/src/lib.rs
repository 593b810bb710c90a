//! facewire-match
