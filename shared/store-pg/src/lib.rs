//! facewire-store-pg
