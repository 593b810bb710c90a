//! facewire-devstack
