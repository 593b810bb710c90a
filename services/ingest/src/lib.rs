//! facewire-ingest
