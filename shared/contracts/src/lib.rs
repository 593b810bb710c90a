//! facewire-contracts
