//! facewire-reconciler
