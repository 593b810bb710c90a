//! facewire-tests
