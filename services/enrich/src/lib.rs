//! facewire-enrich
